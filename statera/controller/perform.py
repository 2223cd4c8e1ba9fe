# SPDX-License-Identifier: Apache-2.0
"""The only place where a step becomes calls: outside first, then one short transaction that says so.

Every call outside names a goal, so after a crash between the two the same step is simply made again.
"""

from collections.abc import Sequence
from typing import assert_never

from msgspec import structs
from sqlalchemy import Connection

from statera.controller.steps import (
    Action,
    AddAmphora,
    ChangeRole,
    FinishDelete,
    GiveUpWaiting,
    GuardVip,
    MarkApplied,
    PlaceAmphora,
    PlugAmphora,
    ReleaseAmphora,
    RetireAmphora,
    SucceedAmphora,
)
from statera.controller.world import World
from statera.drivers.protocols import AmphoraRequest, Berth, VipAddress, VipRequest
from statera.errors import ApiError, GiveUp, NotYet
from statera.model.fleet import ROLES, Port, Role
from statera.model.guard import guard
from statera.model.tree import LoadBalancer
from statera.store import budget, delegated, passes, spares
from statera.store.events import Event, record
from statera.store.passes import Lease
from statera.store.seen import compute_zone, count_on_nodes, flavor_data, load_amphorae, node_of

PAIR = ROLES["ACTIVE_STANDBY"]


def perform(step: Action, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    """Make one step. May block on a cloud. Raise `DriverError` or `LeaseLost`; repeating is always safe."""
    match step:
        case AddAmphora(role):
            with passes.fenced(world.store, lease) as connection:
                _add(connection, role, desired, world)
        case SucceedAmphora():
            _succeed(step, desired, world, lease=lease)
        case ChangeRole(id, role):
            with passes.fenced(world.store, lease) as connection:
                passes.change_role(connection, id, role)
                record(connection, _about(
                    desired, id, "role_changed", f"amphora {id} goes on as {role}: the topology has changed"))
        case PlugAmphora():
            _plug(step, desired, world, lease=lease)
        case GuardVip(mark):
            _guard(mark, desired, world, lease=lease)
        case PlaceAmphora(id):
            _place(id, desired, world, lease=lease)
        case MarkApplied(id):
            machine = world.compute.machine(id)
            with passes.fenced(world.store, lease) as connection:
                passes.mark_applied(
                    connection, id, desired.version, machine=structs.asdict(machine) if machine else {})
        case RetireAmphora(id, why):
            with passes.fenced(world.store, lease) as connection:
                passes.retire_amphora(connection, id)
                record(connection, _about(desired, id, "amphora_retired", f"amphora {id} is retired: {why}"))
        case ReleaseAmphora(id):
            _release(id, desired, world, lease=lease)
        case GiveUpWaiting(provider):
            with passes.fenced(world.store, lease) as connection:
                delegated.give_up(connection, desired.id, why=f"the driver of provider {provider} has not said for "
                                  f"{world.provider_patience_seconds:.0f} s what became of the last change")
        case FinishDelete():
            world.network.release_vip(desired.id)
            world.compute.forget(desired.id)
            with passes.fenced(world.store, lease) as connection:
                passes.forget_load_balancer(connection, desired.id)
        case _:
            assert_never(step)


def _add(connection: Connection, role: Role, desired: LoadBalancer, world: World) -> None:
    """A machine that was made ahead is taken, where one is ready and as good as one of the load balancer's own."""
    if not _takes_spare(connection, role, desired, world) or not spares.claim(
            connection, desired.id, role, zone=compute_zone(connection, desired.availability_zone)):
        passes.add_amphora(connection, desired.id, role)


def _takes_spare(connection: Connection, role: Role, desired: LoadBalancer, world: World) -> bool:
    """Whether a machine that is like all others will do."""
    if not world.compute.plugs or (world.compute.keeps_apart and role in PAIR):
        return False
    flavor = flavor_data(connection, desired.flavor_id)
    return not any(name in flavor for name in world.compute.built_from)


def _succeed(step: SucceedAmphora, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    """Nothing happens when the budget has been spent since the look; the next one finds that."""
    with passes.fenced(world.store, lease) as connection:
        if step.reserve is not None and not budget.spend(
                connection, per_minute=world.replacements_per_minute, reserve=step.reserve):
            return
        if step.reserve is None:  # a wish, such as a rotation's: a spare may be as old as what it would replace
            passes.add_amphora(connection, desired.id, step.role)
        else:
            _add(connection, step.role, desired, world)
        record(connection, _about(
            desired, step.id, "replacement_begun", f"amphora {step.id} is being replaced: {step.why}"))


def _plug(step: PlugAmphora, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    vips = _vips(desired)
    with world.store.read() as connection:
        node = node_of(connection, step.id)
        berth = Berth(desired.id, node or _likely_node(_request(connection, step.id, desired), world)) if _binds(
            world) else None
    ports = [
        world.network.ensure_amphora_port(step.id, subnet_id, vips=vips.get(subnet_id, ()), berth=berth)
        for subnet_id in step.subnet_ids
    ]
    world.network.release_amphora_ports(step.id, keep=step.subnet_ids)
    if world.compute.plugs:
        # What the hypervisor's host calls a device is nothing to who finds it inside the machine.
        ports = [structs.replace(port, host=None, device=None, switch=None) for port in ports]
    if node and world.compute.plugs:
        world.compute.plug(step.id, ports, load_balancer_id=desired.id)
    elif node and _binds(world):
        ports = _bound(step.id, ports, node, world)
    with passes.fenced(world.store, lease) as connection:
        passes.record_ports(connection, step.id, ports)


def _guard(mark: str, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    with world.store.read() as connection:
        amphorae = [amphora for amphora in load_amphorae(connection, desired.id) if not amphora.leaving]
    ports = [port for amphora in amphorae for port in amphora.ports if port.network_id == desired.vip_network_id]
    try:
        world.network.guard_vip(desired.id, guard(desired), ports)
    except GiveUp as error:
        if error.reason != "port_gone":
            raise
        _restore_vip(desired, world, lease=lease)
        world.network.guard_vip(desired.id, guard(desired), ports)
    with passes.fenced(world.store, lease) as connection:
        for amphora in amphorae:
            passes.record_guard(connection, amphora.id, [
                structs.replace(port, guard=mark if port in ports else None) for port in amphora.ports])


def _restore_vip(desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    """Have a port for the VIP again, if somebody deleted it, with the same addresses, if nobody has them since."""
    addresses = [(desired.vip_subnet_id, desired.vip_address)]
    addresses += [(vip.subnet_id, vip.ip_address) for vip in desired.additional_vips]
    try:
        vip = world.network.allocate_vip(VipRequest(
            load_balancer_id=desired.id, project_id=desired.project_id, network_id=desired.vip_network_id or "",
            addresses=tuple(VipAddress(subnet_id=subnet_id or "", ip_address=ip) for subnet_id, ip in addresses)))
    except ApiError as error:
        raise GiveUp("port_gone", f"the VIP's port is gone and cannot be made anew: {error}") from error
    if vip.port_id == desired.vip_port_id:
        return
    with passes.fenced(world.store, lease) as connection:
        passes.record_vip_port(connection, desired.id, vip.port_id)
        record(connection, Event(
            load_balancer_id=desired.id, object_type="loadbalancer", object_id=desired.id, reason="port_restored",
            message=f"somebody deleted the VIP's port {desired.vip_port_id}; {vip.port_id} has its addresses now"))


def _place(amphora_id: str, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    with world.store.read() as connection:
        amphorae = load_amphorae(connection, desired.id)
        own = next(amphora for amphora in amphorae if amphora.id == amphora_id)
        request = _request(connection, amphora_id, desired)
    node_id = world.compute.ensure_node(request)
    machine = world.compute.machine(amphora_id) if world.compute.plugs else None
    if machine:
        with passes.fenced(world.store, lease) as connection:
            passes.note_machine(connection, amphora_id, structs.asdict(machine))
    if node_id is None:
        raise NotYet(f"the node of amphora {amphora_id} is being made")
    ports = own.ports
    if _binds(world):
        ports = tuple(_bound(amphora_id, ports, _name(node_id, request), world))
    with passes.fenced(world.store, lease) as connection:
        if ports != request.ports:
            passes.record_ports(connection, amphora_id, ports)
        passes.place_amphora(connection, amphora_id, node_id, built={
            name: request.flavor[name] for name in world.compute.built_from if name in request.flavor})
        if node_id in {one.node_id for one in amphorae if one.role is not own.role and not one.leaving}:
            record(connection, _about(
                desired, amphora_id, "spread_lost",
                "no second node is free: two amphorae of this load balancer share a node and would fail together"))


def _request(connection: Connection, amphora_id: str, desired: LoadBalancer) -> AmphoraRequest:
    """Another amphora's node is where it is, or where its ports are expected already."""
    amphorae, nodes = load_amphorae(connection, desired.id), tuple(count_on_nodes(connection))
    own = next(amphora for amphora in amphorae if amphora.id == amphora_id)
    others = [amphora for amphora in amphorae if amphora.id != amphora_id and not amphora.leaving]
    hosts = {port.host for amphora in others for port in amphora.ports}
    beside = {amphora.node_id for amphora in others if amphora.node_id} | {
        node.id for node in nodes if node.name in hosts}
    return AmphoraRequest(
        amphora_id=amphora_id, load_balancer_id=desired.id, nodes=nodes, ports=own.ports, beside=tuple(sorted(beside)),
        zone=compute_zone(connection, desired.availability_zone), flavor=flavor_data(connection, desired.flavor_id))


def _binds(world: World) -> bool:
    """Whether ports have to be bound to the node that will plug them."""
    return world.network.guards and world.compute.has_nodes and not world.compute.plugs


def _likely_node(request: AmphoraRequest, world: World) -> str:
    """The name of the node that the amphora would be placed on now, so that its ports are made for that node."""
    return _name(world.compute.ensure_node(request), request)


def _name(node_id: str | None, request: AmphoraRequest) -> str:
    return next(node.name for node in request.nodes if node.id == node_id)


def _bound(amphora_id: str, ports: Sequence[Port], host: str, world: World) -> list[Port]:
    return [port if port.host == host else world.network.bind(amphora_id, port, host) for port in ports]


def _release(amphora_id: str, desired: LoadBalancer, world: World, *, lease: Lease) -> None:
    world.network.release_amphora_ports(amphora_id)
    world.compute.ensure_absent(amphora_id)
    with passes.fenced(world.store, lease) as connection:
        passes.forget_amphora(connection, amphora_id, with_node=world.compute.plugs)


def _vips(desired: LoadBalancer) -> dict[str, tuple[str, ...]]:
    """The VIP addresses in each subnet."""
    vips: dict[str, tuple[str, ...]] = {}
    for vip in desired.additional_vips:
        vips[vip.subnet_id] = (*vips.get(vip.subnet_id, ()), vip.ip_address)
    if desired.vip_subnet_id and desired.vip_address:
        vips[desired.vip_subnet_id] = (desired.vip_address, *vips.get(desired.vip_subnet_id, ()))
    return vips


def _about(desired: LoadBalancer, amphora_id: str, reason: str, message: str) -> Event:
    return Event(load_balancer_id=desired.id, object_type="amphora", object_id=amphora_id, reason=reason,
                 message=message)
