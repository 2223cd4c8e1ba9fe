# SPDX-License-Identifier: Apache-2.0
"""Decides what one amphora is to run: from the wish for a load balancer to the spec of one of its amphorae."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import groupby
from typing import TypeVar

from msgspec import Struct, structs

from statera.fleet import tls
from statera.model.fleet import Amphora, Port, Role
from statera.model.limits import Limits
from statera.model.tree import HealthMonitor, L7Policy, Listener, LoadBalancer, Member, Pool, Versioned
from statera.wire import (
    SPEC_VERSIONS,
    Address,
    Interface,
    L7PolicySpec,
    L7RuleSpec,
    ListenerSpec,
    MemberSpec,
    MonitorSpec,
    PersistenceSpec,
    PoolSpec,
    Predecessor,
    Spec,
    VrrpSpec,
)

PRIORITY = {Role.MASTER: 254, Role.BACKUP: 253}
"""So close to the top the standby waits a hundredth of an advert before it takes over."""

UNLIMITED = Limits()

LATER_SECONDS = 1
"""Who joins a pair that serves waits so long before it speaks: meanwhile the others get to know it."""

Target = TypeVar("Target", bound=Struct)


def build(
    lb: LoadBalancer, amphora: Amphora, peers: Sequence[Amphora], *, secrets: Mapping[str, str] | None = None,
    limits: Limits = UNLIMITED,
) -> Spec:
    """The whole of what *amphora* is to run for *lb*; *peers* are the load balancer's other amphorae, *secrets*
    what its references hold, as PEM, *limits* what its flavor says.

    Objects that are switched off or being deleted are left out, except that a member that is switched off
    stays, disabled, so that it can drain. A pool is in it when an enabled listener or its policies use it.
    """
    pools = {pool.id: pool for pool in lb.pools if _is_on(pool)}
    listeners = [_listener(listener, pools) for listener in lb.listeners if _is_on(listener)]
    used = {pool_id for listener in listeners for pool_id in (listener.default_pool_id, *listener.redirect_pool_ids)}
    interfaces = _interfaces(amphora.ports)
    return Spec(
        amphora_id=amphora.id,
        load_balancer_id=lb.id,
        version=lb.version,
        role=amphora.role,
        interfaces=interfaces,
        vips=tuple(_vip(ip, subnet_id, amphora.ports) for ip, subnet_id in _vip_addresses(lb)),
        listeners=tuple(listeners),
        pools=tuple(_pool(pool) for pool in pools.values() if pool.id in used),
        pem_files=tuple(tls.pem_files(
            filter(_is_on, lb.listeners), (pool for pool in pools.values() if pool.id in used), secrets or {})),
        vrrp=_vrrp(amphora, peers),
        enabled=lb.admin_state_up,
        project_id=lb.project_id,
        request_id=lb.request_id,
        log_target=lb.log_target,
        limits=limits,
        predecessors=_predecessors(amphora, peers),
        renewal=amphora.renewal,
        spec_version=SPEC_VERSIONS[any(interface.switch for interface in interfaces)],
    )


def _is_on(record: Versioned) -> bool:
    return record.admin_state_up and not record.deleting


def _listener(listener: Listener, pools: Mapping[str, Pool]) -> ListenerSpec:
    pool_id = listener.default_pool_id
    speaks_http = listener.protocol in ("HTTP", "TERMINATED_HTTPS")
    policies = [_policy(policy) for policy in listener.l7policies if speaks_http and _is_asked(policy, pools)]
    return _copied(
        ListenerSpec,
        listener,
        default_pool_id=pool_id if pool_id in pools else None,
        tls=tls.listener_tls(listener),
        l7policies=tuple(policies),
        redirect_pool_ids=tuple(dict.fromkeys(p.redirect_pool_id for p in policies if p.redirect_pool_id)),
    )


def _is_asked(policy: L7Policy, pools: Mapping[str, Pool]) -> bool:
    """Not one without rules, and not one that would send requests to a pool that is off."""
    leads_somewhere = policy.action != "REDIRECT_TO_POOL" or policy.redirect_pool_id in pools
    return _is_on(policy) and leads_somewhere and any(_is_on(rule) for rule in policy.rules)


def _policy(policy: L7Policy) -> L7PolicySpec:
    return _copied(
        L7PolicySpec, policy, rules=tuple(_copied(L7RuleSpec, rule) for rule in policy.rules if _is_on(rule)))


def _pool(pool: Pool) -> PoolSpec:
    persistence = pool.session_persistence
    return _copied(
        PoolSpec,
        pool,
        members=tuple(_member(member) for member in pool.members if not member.deleting),
        monitor=_monitor(pool.healthmonitor),
        session_persistence=None if persistence is None else _copied(PersistenceSpec, persistence),
        tls=tls.pool_tls(pool),
    )


def _member(member: Member) -> MemberSpec:
    return _copied(MemberSpec, member, enabled=member.admin_state_up)


def _monitor(monitor: HealthMonitor | None) -> MonitorSpec | None:
    return _copied(MonitorSpec, monitor) if monitor is not None and _is_on(monitor) else None


def _copied(target: type[Target], source: Struct, **given: object) -> Target:
    """A *target* with the fields that *source* has too; null means the target's own default."""
    names = {field.name for field in structs.fields(target)} - given.keys()
    same = {name: value for name in names if (value := getattr(source, name, None)) is not None}
    return target(**same, **given)


def _interfaces(ports: Sequence[Port]) -> tuple[Interface, ...]:
    """One leg for each network, in the order in which the ports first name it."""
    order = list(dict.fromkeys(port.network_id for port in ports))
    by_network = groupby(sorted(ports, key=lambda port: order.index(port.network_id)), lambda port: port.network_id)
    return tuple(_interface(index, list(group)) for index, (_, group) in enumerate(by_network))


def _interface(index: int, ports: Sequence[Port]) -> Interface:
    first = ports[0]
    # A member network's leg is named after the network: it keeps its name when another one goes.
    name = "eth1" if index == 0 else f"eth-{first.network_id.replace('-', '')[:11]}"
    return Interface(
        # A port of an Open vSwitch has one name for ever.
        name=first.device if first.switch and first.device else name,
        network_id=first.network_id,
        addresses=tuple(_address(port.ip_address, port) for port in ports),
        mac_address=first.mac_address,
        bridge=first.bridge,
        device=first.device,
        switch=first.switch,
        port_id=first.port_id if first.switch else None,
        mtu=first.mtu,
    )


def _vip_addresses(lb: LoadBalancer) -> list[tuple[str, str | None]]:
    main = [(lb.vip_address, lb.vip_subnet_id)] if lb.vip_address else []
    return [*main, *((vip.ip_address, vip.subnet_id) for vip in lb.additional_vips)]


def _vip(ip: str, subnet_id: str | None, ports: Sequence[Port]) -> Address:
    """The VIP as its subnet's port knows it; without such a port it stands alone."""
    for port in ports:
        if port.subnet_id == subnet_id or (subnet_id is None and ip_address(ip) in ip_network(port.cidr)):
            return _address(ip, port)
    return Address(ip=ip, prefix=ip_address(ip).max_prefixlen)


def _address(ip: str, port: Port) -> Address:
    return Address(
        ip=ip, prefix=ip_network(port.cidr).prefixlen, gateway=port.gateway_ip, host_routes=port.host_routes)


def _vrrp(amphora: Amphora, peers: Sequence[Amphora]) -> VrrpSpec | None:
    """None for one that stands alone, also for half a pair whose other half is not there yet."""
    others = [peer for peer in peers if peer.id != amphora.id and peer.role in PRIORITY and _is_reachable(peer)]
    if amphora.role not in PRIORITY or not others:
        return None
    ips = tuple(peer.ports[0].ip_address for peer in others)
    is_later = any(peer.born_version < amphora.born_version for peer in others)
    return VrrpSpec(
        priority=PRIORITY[amphora.role], peer_ip=ips[-1], peer_ips=ips if len(ips) > 1 else (),
        delay_seconds=LATER_SECONDS if is_later else 0)


def _predecessors(amphora: Amphora, peers: Sequence[Amphora]) -> tuple[Predecessor, ...]:
    return tuple(
        Predecessor(amphora_id=peer.id, ip=peer.ports[0].ip_address)
        for peer in peers if peer.id != amphora.id and peer.leaving and not peer.gone and peer.ports)


def _is_reachable(peer: Amphora) -> bool:
    return bool(peer.ports) and not peer.leaving and not peer.gone
