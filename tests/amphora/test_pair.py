# SPDX-License-Identifier: Apache-2.0
"""Of a pair one always answers and never both; what clients and tenants rely on survives the switch."""

import time

import pytest
from amphora.datagrams import asked
from amphora.pairs import (
    cut_off,
    kill_all,
    kill_haproxy,
    kill_keepalived,
    longest_gap,
    pair,
    vrrp_words,
    watched,
    who_answers,
    who_serves,
)
from msgspec.structs import replace

from statera.wire import ListenerSpec, PersistenceSpec, PoolSpec, Report

WAYS = {
    "haproxy-killed": lambda lab, node, spec: kill_haproxy(node, spec),
    "keepalived-killed": lambda lab, node, spec: kill_keepalived(node, spec),
    "machine-off": lambda lab, node, spec: cut_off(node, spec),
    "leaving": lambda lab, node, spec: node.carry(lab.network),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_other_one_answers_soon_and_alone(lab, wait_until, way):
    (one, spec), (other, _) = who_serves(pair(lab), wait_until)
    before = who_answers(lab)
    with watched(lab) as answers:
        wait_until(lambda: len(answers) > 10)
        began = time.monotonic()
        WAYS[way](lab, one, spec)
        wait_until(lambda: who_answers(lab, 0.1) not in (before, set()))
        wait_until(lambda: answers[-1] > began + 1)
    print(f"\nnobody answered for {longest_gap(answers) * 1000:.0f} ms", end="")
    assert longest_gap(answers) < 5
    wait_until(lambda: vrrp_words(other) == ["MASTER"])
    assert [len(who_answers(lab, 0.1)) for _ in range(5)] == [1] * 5


def test_who_died_again_and_again_stands_by_then(lab, wait_until):
    (one, spec), (other, _) = who_serves(pair(lab), wait_until)
    for _ in range(2):
        wait_until(lambda: len(one.pids(spec)) == 2)
        kill_haproxy(one, spec)
    wait_until(lambda: vrrp_words(other) == ["MASTER"])
    wait_until(lambda: vrrp_words(one) == ["BACKUP"])
    assert lab.get()


def test_a_pair_whose_haproxies_all_die_again_and_again_serves_in_between(lab, wait_until):
    both = who_serves(pair(lab), wait_until)
    for _ in range(2):
        for host, spec in both:
            wait_until(lambda host=host, spec=spec: len(host.pids(spec)) == 2)
            kill_all(host, spec)
    took = wait_until(lambda: lab.get(patience_seconds=0.05))
    print(f"\nserves after {took:.2f} s")


@pytest.mark.parametrize(("kind", "cookie"), [("SOURCE_IP", None), ("APP_COOKIE", "APP"), ("HTTP_COOKIE", None)])
def test_clients_keep_their_member_when_the_other_one_serves(lab, wait_until, kind, cookie):
    both = pair(lab, PersistenceSpec(type=kind, cookie_name=cookie))
    (one, spec), _ = who_serves(both, wait_until)
    first = lab.get()
    # The application's own cookie is the same for all; with it only the memory tells members apart.
    cookies = [line.split(";")[0] for line in first["cookies"] if line.startswith("APP" if cookie else "SRV")]
    asks = {"headers": f"Cookie: {'; '.join(cookies)}\r\n"} if kind != "SOURCE_IP" else {}
    assert {lab.get(**asks)["who"] for _ in range(4)} == {first["who"]}
    cut_off(one, spec)
    wait_until(lambda: lab.get(patience_seconds=0.05, **asks))
    assert {lab.get(**asks)["who"] for _ in range(6)} == {first["who"]}


def test_totals_never_fall_and_nothing_is_counted_twice(lab, wait_until):
    both = pair(lab, None)
    flow = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")
    members = tuple(lab.member(last, protocol_port=90) for last in (10, 11))
    names = PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=members)
    both = [(host, replace(spec, version=2, listeners=(*spec.listeners, flow), pools=(*spec.pools, names)))
            for host, spec in both]
    for host, spec in both:
        assert host.put(spec).failure is None
    served = who_serves(both, wait_until)
    page, sums, sent = both[0][1].listeners[0].id, [], 0

    def traffic():
        nonlocal sent
        for _ in range(10):
            wait_until(lambda: lab.get(patience_seconds=0.2))
        asked(lab, 10)
        sent += 10
        wait_until(lambda: total(both, "flow") == sent)
        wait_until(lambda: total(both, page) >= sent)
        sums.append((total(both, page), total(both, "flow")))

    def reload():
        for number, (host, spec) in enumerate(both):
            slower = replace(spec.listeners[0], timeout_client_data=40_000)
            both[number] = host, replace(spec, version=3, listeners=(slower, *spec.listeners[1:]))
            assert host.put(both[number][1]).how == "reload"

    def restart():
        for number, (host, spec) in enumerate(both):
            host.stop()
            again = lab.host(host.state.name)
            again.carry(lab.network, spec.amphora_id)
            again.said[:0] = host.said
            both[number] = again, spec
            assert again.put(spec).failure is None

    def crash():
        host, spec = who_serves(both, wait_until)[0]
        kill_haproxy(host, spec)
        wait_until(lambda: len(host.pids(spec)) == 2)

    def switch():
        cut_off(*who_serves(both, wait_until)[0])

    traffic()
    for act in (reload, restart, crash, switch):
        act()
        traffic()
    assert served
    assert sums == sorted(sums)
    for host, _ in both:
        for name in (page, "flow"):
            said = [up.counters[name].total_connections for up in host.said
                    if isinstance(up, Report) and name in up.counters]
            assert said == sorted(said)


def total(both, listener):
    return sum(counters.total_connections for host, _ in both
               for name, counters in host.words("counters").items() if name == listener)
