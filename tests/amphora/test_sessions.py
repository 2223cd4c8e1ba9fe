# SPDX-License-Identifier: Apache-2.0
"""What clients that have begun keep when members drain, and when the other one of a pair takes over."""

import pytest
from amphora.datagrams import asked
from amphora.pairs import cut_off, pair, who_serves
from amphora.test_listeners import ask, talk, who
from msgspec.structs import replace

from statera.wire import Address, ListenerSpec, PersistenceSpec, PoolSpec


@pytest.mark.carries("weight 0 keeps sessions")
@pytest.mark.parametrize("kind", ["HTTP_COOKIE", "APP_COOKIE", "SOURCE_IP"])
def test_a_member_that_drains_keeps_its_clients_and_gets_no_new_ones(lab, node, serving, kind):
    persistence = PersistenceSpec(type=kind, cookie_name="APP" if kind == "APP_COOKIE" else None)
    sticky = replace(serving, version=2, pools=(replace(serving.pools[0], session_persistence=persistence),))
    assert node.put(sticky).failure is None
    _, said, cookies = ask(lab, source=f"{lab.net}.1")
    mine = said["who"].rsplit(".")[-1]
    drained = tuple(replace(one, weight=0) if one.address == said["who"].removeprefix("::ffff:") else one
                    for one in sticky.pools[0].members)
    applied = node.put(replace(sticky, version=3, pools=(replace(sticky.pools[0], members=drained),)))
    assert (applied.failure, applied.how) == (None, "runtime")
    assert who(lab, 80, 4, source=f"{lab.net}.1", Cookie=cookies) == {mine: 4}
    assert mine not in who(lab, 80, 4, source=f"{lab.net}.2")


@pytest.mark.carries("weight 0 keeps sessions")
def test_a_connection_to_a_member_that_drains_goes_on(lab, node, serving):
    members = tuple(lab.member(last, protocol_port=90) for last in (10, 11))
    echo = PoolSpec(id="echo", protocol="TCP", lb_algorithm="ROUND_ROBIN", members=members)
    spec = replace(serving, version=2, pools=(echo,), listeners=(
        ListenerSpec(id="tcp", protocol="TCP", protocol_port=80, default_pool_id="echo"),))
    assert node.put(spec).failure is None
    with talk(lab, 80) as link:
        link.sendall(b"x\n")
        first = link.recv(100)
        drained = tuple(replace(one, weight=0) for one in members)
        assert node.put(replace(spec, version=3, pools=(replace(echo, members=drained),))).how == "runtime"
        link.sendall(b"x\n")
        assert link.recv(100) == first


@pytest.mark.carries("additional VIPs in ACTIVE_STANDBY")
def test_every_vip_moves_to_the_other_one(lab, wait_until):
    hosts, names = pair(lab), PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=(
        lab.member(10, protocol_port=90), replace(
            lab.member(10, protocol_port=90), id="six", address=f"{lab.net6}10")))
    flow = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")
    vips = (Address(ip=lab.vip6, prefix=64), Address(ip=f"{lab.net}.201", prefix=24))
    wider = []
    for number, (host, spec) in enumerate(hosts):
        leg = spec.interfaces[0]
        leg = replace(leg, addresses=(*leg.addresses, Address(ip=f"{lab.net6}10{number}", prefix=64)))
        wider.append((host, replace(
            spec, version=2, interfaces=(leg,), vips=(*spec.vips, *vips), listeners=(*spec.listeners, flow),
            pools=(*spec.pools, names))))
        assert host.put(wider[-1][1]).failure is None

    def all_answer():
        return all(ask(lab, ip=ip)[0] == 200 and asked(lab, 1, ip=ip) == {"10": 1}
                   for ip in (lab.vip, *(vip.ip for vip in vips)))

    wait_until(all_answer, seconds=15)
    (master, spec), _ = who_serves(wider, wait_until)
    cut_off(master, spec)
    wait_until(all_answer, seconds=15)


@pytest.mark.carries("backup members")
def test_backups_serve_until_the_first_comes_back(lab, node, serving):
    first, spare = (replace(lab.member(10)), replace(lab.member(11), backup=True))
    pool = replace(serving.pools[0], members=(first, spare))
    assert node.put(replace(serving, version=2, pools=(pool,))).failure is None
    assert set(who(lab, 80, 4)) == {"10"}
    off = replace(pool, members=(replace(first, enabled=False), spare))
    assert node.put(replace(serving, version=3, pools=(off,))).how == "runtime"
    assert set(who(lab, 80, 4)) == {"11"}
    assert node.put(replace(serving, version=4, pools=(pool,))).how == "runtime"
    assert set(who(lab, 80, 4)) == {"10"}
