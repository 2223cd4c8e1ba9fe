# SPDX-License-Identifier: Apache-2.0
"""How a HAProxy gets from what it runs to what it should run: nothing, runtime commands, a reload or a start.

Whatever differs in the rendered file once members, connection limits and the version are left out needs a
reload; the rest is commanded. A listener or an L7 policy that goes is only put to sleep; the next reload
removes it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from statera.agent import l7, tls
from statera.render import haproxy
from statera.render import tls as rendered
from statera.render.backends import backend_name, backends, proxied
from statera.render.haproxy import Machine
from statera.render.l7 import files
from statera.wire import ListenerSpec, MemberSpec, PoolSpec, Spec

How = Literal["nothing", "runtime", "reload", "start"]
Part = TypeVar("Part", ListenerSpec, PoolSpec)


class Running(Struct, frozen=True, kw_only=True):
    """What a HAProxy runs: *applied* is what it should, *loaded* also holds the listeners that are asleep."""

    applied: Spec
    loaded: Spec


class Plan(Struct, frozen=True, kw_only=True):
    """*file* is written whatever the way, so that a later reload agrees; *commands* are given in order.

    *files* are those of the policies, by name, written with it, *tls_files* certificates and their lists.
    *is_unsure*: ask HAProxy whether it can read the files before anything is done.
    *leaving* are servers (`backend/server`) to delete when their connections end.
    """

    how: How
    running: Running
    file: str
    files: dict[str, str]
    tls_files: dict[str, str]
    commands: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    is_unsure: bool = False


def changes(running: Running | None, wanted: Spec, machine: Machine) -> Plan:
    """The least disturbing way to *wanted*; *running* is None when there is no HAProxy.

    Raise `GiveUp` for a spec that cannot be rendered.
    """
    if running is None:
        return afresh("start", wanted, machine)
    new = proxied(awake(wanted))
    tls_files = rendered.files(new)
    kept = overlay(running.loaded, new)
    if not is_live(running.loaded, kept, machine):
        return afresh("reload", wanted, machine)
    servers = [*server_changes(running.loaded, kept)]
    commands = [
        *listener_commands(running, new, kept, machine),
        *tls.commands(running.loaded, kept, f"{machine.run}/{rendered.FOLDER}"),
        *(command for change in servers for command in change.commands if not is_farewell(command)),
        # Policies send requests elsewhere before the members that they leave are taken away.
        *l7.commands(running.loaded, kept),
        *(command for change in servers for command in change.commands if is_farewell(command)),
    ]
    leaving = tuple(change.leaving for change in servers if change.leaving)
    return Plan(
        how="runtime" if commands else "nothing", running=Running(applied=tls.bare(new), loaded=tls.bare(kept)),
        file=haproxy.render(new, machine), files=files(new), tls_files=tls_files,
        commands=tuple(commands), leaving=leaving, is_unsure=l7.is_unsure(running.loaded, kept))


def afresh(how: How, wanted: Spec, machine: Machine) -> Plan:
    """What is always right, if not the least disturbing: load the file. Raise `GiveUp` as `changes` does."""
    new = proxied(awake(wanted))
    running = Running(applied=tls.bare(new), loaded=tls.bare(new))
    return Plan(how=how, running=running, file=haproxy.render(new, machine), files=files(new),
                tls_files=rendered.files(new), is_unsure=l7.is_unsure(None, new))


def instead(plan: Plan) -> Plan:
    """The same by a reload, where commands would not do."""
    running = replace(plan.running, loaded=plan.running.applied)
    return replace(plan, how="reload", running=running, commands=(), leaving=())


def awake(spec: Spec) -> Spec:
    """A load balancer that is disabled listens nowhere."""
    return spec if spec.enabled else replace(spec, listeners=(), pools=(), pem_files=())


def overlay(loaded: Spec, new: Spec) -> Spec:
    """*new* with what only *loaded* has, in the order of *loaded*; pools that nobody uses rest."""
    pools = {pool.id: pool for pool in new.pools}
    former = {listener.id: listener for listener in loaded.listeners}
    listeners = {one.id: l7.overlay(former[one.id], one) if one.id in former else one for one in new.listeners}
    return replace(
        new,
        listeners=_merged(loaded.listeners, listeners, lambda listener: listener),
        pools=_merged(loaded.pools, pools, at_rest),
        pem_files=tls.overlay(loaded, new),
    )


def _merged(old: Iterable[Part], new: dict[str, Part], absent: Callable[[Part], Part]) -> tuple[Part, ...]:
    kept = {one.id: new.get(one.id) or absent(one) for one in old}
    return tuple((kept | new).values())


def at_rest(pool: PoolSpec) -> PoolSpec:
    """The pool with all members disabled, so that nobody checks them."""
    return replace(pool, members=tuple(replace(member, enabled=False) for member in pool.members))


def is_live(old: Spec, new: Spec, machine: Machine) -> bool:
    """Whether commands can turn *old* into *new*."""
    return skeleton(old, machine) == skeleton(new, machine) and tls.is_live(old, new) and not any(
        before.backup != after.backup for _, _, before, after in members(old, new) if before and after)


# What all servers of a pool have in common shows on this one.
SAMPLE = MemberSpec(id="sample", address="192.0.2.1", protocol_port=1)


def skeleton(spec: Spec, machine: Machine) -> str:
    """The file without all that commands can change."""
    limit = machine.default_connection_limit
    return haproxy.render(replace(
        spec,
        version=0,
        listeners=tuple(replace(one, connection_limit=max(one.connection_limit, limit)) for one in spec.listeners),
        pools=tuple(replace(pool, members=(SAMPLE,)) for pool in spec.pools),
    ), machine)


def listener_commands(running: Running, new: Spec, kept: Spec, machine: Machine) -> Iterator[str]:
    """Put to sleep what goes, wake what returns, set the limits that changed."""
    before, after = ({listener.id for listener in spec.listeners} for spec in (running.applied, new))
    yield from (f"disable frontend {name}" for name in sorted(before - after))
    limits = {listener.id: limit_of(listener, machine) for listener in running.loaded.listeners}
    for listener in kept.listeners:
        if limit_of(listener, machine) != limits[listener.id]:
            yield f"set maxconn frontend {listener.id} {limit_of(listener, machine)}"
    yield from (f"enable frontend {name}" for name in sorted(after - before))


def limit_of(listener: ListenerSpec, machine: Machine) -> int:
    return listener.connection_limit if listener.connection_limit >= 0 else machine.default_connection_limit


class ServerChange(Struct, frozen=True):
    """Commands for one server; *leaving* names it when it goes."""

    commands: tuple[str, ...]
    leaving: str | None = None


Couple = tuple[str, PoolSpec, MemberSpec | None, MemberSpec | None]


def members(old: Spec, new: Spec) -> Iterator[Couple]:
    """Each server of the backends in both specs: the backend, the pool, the member before and after."""
    former = {backend_name(pool.id, listener): pool for listener, pool in backends(old)}
    for listener, pool in backends(new):
        name = backend_name(pool.id, listener)
        before = {member.id: member for member in former[name].members} if name in former else {}
        after = {member.id: member for member in pool.members}
        # Who comes is put before who goes, so that a pool never stands empty in between.
        for id_ in [*after, *(id_ for id_ in before if id_ not in after)]:
            yield name, pool, before.get(id_), after.get(id_)


def server_changes(old: Spec, new: Spec) -> Iterator[ServerChange]:
    listeners = {backend_name(pool.id, listener): listener for listener, pool in backends(new)}
    numbers = {pool.id: {member.id: number for number, member in haproxy.numbered(pool.members)} for pool in new.pools}
    for backend, pool, before, after in members(old, new):
        if after is None and before is not None:
            server = f"{backend}/{before.id}"
            yield ServerChange((f"set server {server} state maint",), leaving=server)
        elif before is None and after is not None:
            yield ServerChange(tuple(addition(
                listeners[backend], pool, after, number=numbers[pool.id][after.id])))
        elif before is not None and after is not None and before != after:
            server = f"{backend}/{after.id}"
            yield ServerChange(tuple(f"{command.format(server=server)}" for command in updates(pool, before, after)))


def is_farewell(command: str) -> bool:
    return command.endswith(" state maint")


def addition(listener: ListenerSpec, pool: PoolSpec, member: MemberSpec, *, number: int) -> Iterator[str]:
    """A new server starts disabled, unchecked and without a cookie (HAProxy 2.6)."""
    backend = backend_name(pool.id, listener)
    server = f"{backend}/{member.id}"
    yield f"add server {backend}/{haproxy.server(pool, listener, member=member, number=number)}"
    if pool.monitor:
        yield f"enable health {server}"
    if pool.session_persistence and pool.session_persistence.type == "HTTP_COOKIE":
        yield f"enable dynamic-cookie backend {backend}"
    if member.enabled:
        yield f"enable server {server}"


def weight(_pool: PoolSpec, member: MemberSpec) -> str:
    return f"set server {{server}} weight {member.weight}"


def state(_pool: PoolSpec, member: MemberSpec) -> str:
    return f"set server {{server}} state {'ready' if member.enabled else 'maint'}"


def place(_pool: PoolSpec, member: MemberSpec) -> str:
    return f"set server {{server}} addr {member.address} port {member.protocol_port}"


def check_place(pool: PoolSpec, member: MemberSpec) -> str:
    at, port = member.monitor_address or member.address, member.monitor_port or member.protocol_port
    return f"set server {{server}} check-addr {at} port {port}" if pool.monitor else ""


UPDATES: dict[str, Callable[[PoolSpec, MemberSpec], str]] = {
    "address": place,
    "protocol_port": place,
    "monitor_address": check_place,
    "monitor_port": check_place,
    "weight": weight,
    "enabled": state,
}
"""Which command follows a change of which field of a member."""


def updates(pool: PoolSpec, before: MemberSpec, after: MemberSpec) -> Iterator[str]:
    wanted = dict.fromkeys(
        rule(pool, after) for field, rule in UPDATES.items() if getattr(before, field) != getattr(after, field))
    yield from (command for command in wanted if command)
