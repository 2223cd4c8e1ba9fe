# SPDX-License-Identifier: Apache-2.0
"""UDP through the kernel: who answers, who goes on being answered, who is refused."""

import contextlib
import socket

import pytest
from amphora.datagrams import asked, client, who
from amphora.pairs import cut_off, pair, who_serves
from amphora.test_survival import forget
from msgspec.structs import replace

from statera.agent import sctp
from statera.wire import Address, Counters, ListenerSpec, PersistenceSpec, PoolSpec

LISTENER = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")


def udp_pool(*members, **changes):
    return PoolSpec(**{"id": "names", "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN", "members": members, **changes})


@pytest.fixture
def flowing(lab, node):
    """An amphora with nothing but a UDP listener and two members."""
    spec = lab.spec(listeners=(LISTENER,), pools=(udp_pool(ten(lab), eleven(lab)),))
    node.carry(lab.network, spec.amphora_id)
    assert node.put(spec).failure is None
    return spec


def ten(lab, **changes):
    return lab.member(10, protocol_port=90, **changes)


def eleven(lab, **changes):
    return lab.member(11, protocol_port=90, **changes)


def changed(spec, *, listener=None, **pool):
    listeners = (replace(spec.listeners[0], **(listener or {})), *spec.listeners[1:])
    pools = (replace(spec.pools[0], **pool), *spec.pools[1:])
    return replace(spec, version=spec.version + 1, listeners=listeners, pools=pools)


@pytest.mark.carries("UDP listener", "ROUND_ROBIN of datagrams", "weight of datagrams")
def test_members_take_turns_by_weight_and_a_flow_stays(lab, node, flowing):
    assert asked(lab) == {"10": 6, "11": 6}
    with client(lab) as flow:
        assert len({who(flow) for _ in range(5)}) == 1
    applied = node.put(changed(flowing, members=(ten(lab, weight=3), eleven(lab))))
    assert (applied.failure, applied.how) == (None, "runtime")
    assert asked(lab) == {"10": 9, "11": 3}
    print(f"\nreweighted in {applied.seconds * 1000:.0f} ms", end="")


@pytest.mark.parametrize("without", [
    pytest.param(lambda lab, last: (), id="removed"),
    pytest.param(lambda lab, last: (lab.member(last, protocol_port=90, enabled=False),), id="disabled"),
])
def test_a_flow_moves_when_its_member_goes(lab, node, flowing, without):
    with client(lab) as flow:
        first = who(flow)
        other = {"10": eleven, "11": ten}[first](lab)
        node.put(changed(flowing, members=(*without(lab, int(first)), other)))
        assert {who(flow) for _ in range(3)} == {"10", "11"} - {first}


@pytest.mark.carries("weight 0 of datagrams")
def test_weight_nought_lets_flows_end_by_themselves(lab, node, flowing):
    with client(lab) as flow:
        first = who(flow)
        drained, other = (ten, eleven) if first == "10" else (eleven, ten)
        node.put(changed(flowing, members=(drained(lab, weight=0), other(lab))))
        assert who(flow) == first
        assert set(asked(lab, 4)) == {"10", "11"} - {first}


@pytest.mark.carries("SOURCE_IP persistence of datagrams, timeout and granularity")
def test_a_client_is_remembered_across_changes(lab, node, flowing):
    persistent = changed(flowing, session_persistence=PersistenceSpec(type="SOURCE_IP", persistence_timeout=60))
    node.put(persistent)
    [(first, _)] = asked(lab, 4).items()
    assert asked(lab, 4, source=f"{lab.net}.2") == {{"10": "11", "11": "10"}[first]: 4}
    node.put(changed(persistent, members=(ten(lab), eleven(lab), lab.member(12, protocol_port=90))))
    assert asked(lab, 4) == {first: 4}
    coarse = PersistenceSpec(type="SOURCE_IP", persistence_timeout=60, persistence_granularity="255.255.255.0")
    node.put(replace(changed(persistent, session_persistence=coarse), version=9))
    assert asked(lab, 4) == asked(lab, 4, source=f"{lab.net}.2")


@pytest.mark.carries("SOURCE_IP and SOURCE_IP_PORT of datagrams")
def test_a_hash_of_the_source_keeps_a_client_with_its_member(lab, node, flowing):
    node.put(changed(flowing, lb_algorithm="SOURCE_IP"))
    assert len(asked(lab)) == 1
    node.put(replace(changed(flowing, lb_algorithm="SOURCE_IP_PORT"), version=9))
    assert set(asked(lab, 24)) == {"10", "11"}


@pytest.mark.carries("allowed_cidrs, UDP", "connection_limit of datagrams")
def test_who_is_not_allowed_or_too_many_hears_nothing(lab, node, flowing):
    guarded = changed(flowing, listener={"allowed_cidrs": (f"{lab.net}.1/32",)})
    node.put(guarded)
    assert sum(asked(lab, 2, source=f"{lab.net}.1").values()) == 2
    with pytest.raises(TimeoutError):
        asked(lab, 1, source=f"{lab.net}.2")
    limited = changed(guarded, listener={"allowed_cidrs": (), "connection_limit": 3})
    node.put(limited)
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(client(lab)) for _ in range(4)]
        assert all(who(flow) for flow in flows[:3])
        with pytest.raises(TimeoutError):
            who(flows[3])
        node.wait(lambda _: node.words("listeners") == {"flow": "FULL"})


@pytest.mark.carries("TCP and UDP on one port", "additional VIPs of both families, UDP")
def test_tcp_and_udp_share_a_port_and_both_families_answer(lab, node, serving):
    six = lab.member(10, protocol_port=90)
    own, [leg] = Address(ip=f"{lab.net6}100", prefix=64), serving.interfaces
    both = replace(
        serving, version=2, vips=(*serving.vips, Address(ip=lab.vip6, prefix=64)),
        interfaces=(replace(leg, addresses=(*leg.addresses, own)),),
        listeners=(*serving.listeners, replace(LISTENER, protocol_port=80)),
        pools=(*serving.pools, udp_pool(ten(lab), replace(six, id="six", address=f"{lab.net6}10"))))
    node.carry(lab.network, serving.amphora_id)
    assert node.put(both).failure is None
    assert lab.get()["who"]
    assert asked(lab, 2, port=80) == {"10": 2}
    assert asked(lab, 2, ip=lab.vip6, port=80) == {"10": 2}


def test_no_member_no_listener_no_answer(lab, node, flowing):
    node.put(changed(flowing, members=()))
    with pytest.raises(ConnectionRefusedError):
        asked(lab, 1)
    with client(lab) as flow:
        node.put(replace(changed(flowing), version=3))
        assert who(flow)
        node.put(replace(flowing, version=4, listeners=(), pools=()))
        with pytest.raises(ConnectionRefusedError):
            who(flow)


def test_words_and_totals_are_said_and_never_fall(lab, node, flowing):
    asked(lab, 5)
    node.wait(lambda _: node.words("counters").get("flow") and node.words("counters")["flow"].total_connections == 5)
    counters = node.words("counters")["flow"]
    assert counters.bytes_in == 5 * 29
    assert counters.bytes_out > counters.bytes_in
    assert counters.active_connections == 5
    assert node.words("listeners") == {"flow": "OPEN"}
    assert node.words("pools") == {"names": "UP"}
    assert set(node.words("members").values()) == {"no check"}
    node.put(replace(flowing, version=2, listeners=(), pools=()))
    node.put(replace(flowing, version=3))
    asked(lab, 1)
    node.wait(lambda _: node.words("counters").get("flow") and node.words("counters")["flow"].total_connections == 6)


def test_flows_outlive_the_agent(lab, node, flowing):
    with client(lab) as flow:
        first = who(flow)
        node.stop()
        assert who(flow) == first
        again = lab.host()
        again.carry(lab.network, flowing.amphora_id)
        assert again.put(replace(flowing, version=2)).failure is None
        assert who(flow) == first


def test_a_reboot_brings_flows_and_totals_back(lab, node, flowing):
    asked(lab, 3)
    node.wait(lambda _: node.words("counters").get("flow", Counters()).total_connections == 3)
    node.stop()
    forget(node, flowing)
    again = lab.host()
    asked(lab, 2)
    again.wait(lambda _: again.words("counters").get("flow", Counters()).total_connections == 5)


def test_the_other_of_a_pair_takes_over_with_the_same_hash(lab, wait_until):
    hosts = pair(lab)
    pool = udp_pool(ten(lab), eleven(lab), lb_algorithm="SOURCE_IP_PORT")
    for host, spec in hosts:
        assert host.put(replace(spec, version=2, listeners=(LISTENER,), pools=(pool,))).failure is None
    wait_until(lambda: asked(lab, 1))
    with contextlib.ExitStack() as stack:
        flows = [stack.enter_context(client(lab)) for _ in range(20)]
        first = [who(flow) for flow in flows]
        cut_off(*who_serves(hosts, wait_until)[0])
        took = wait_until(lambda: asked(lab, 1))
        assert [who(flow) for flow in flows] == first
    assert len(set(first)) == 2
    print(f"\nanswered by the other after {took:.2f} s", end="")


@pytest.mark.carries("SCTP listener")
def test_sctp_packets_reach_a_member_and_its_answer_the_client(lab, node, flowing):
    assert node.put(changed(flowing, listener={"protocol": "SCTP"}, protocol="SCTP")).failure is None
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as raw:
        raw.settimeout(2)
        raw.connect((lab.vip, 0))
        accepted = set()
        for source in (4001, 4002):
            raw.send(sctp.packed(sctp.Packet(source, 53, 0, sctp.INIT, 7)))
            data = raw.recv(2048)[20:]
            answer = sctp.parsed(data)
            assert (answer.source, answer.port, answer.tag, answer.chunk) == (53, source, 7, sctp.INIT_ACK)
            assert sctp.crc32c(data[:8] + bytes(4) + data[12:]).to_bytes(4, "little") == data[8:12]
            accepted.add(answer.offered)
    assert accepted == {10, 11}
    print("\npackets made by hand; this kernel", "has" if has_sctp() else "has no", "SCTP sockets", end="")


def has_sctp():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True
