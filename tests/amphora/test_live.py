# SPDX-License-Identifier: Apache-2.0
"""What changes without a reload does so in the same worker; what needs one loses nobody."""

import socket
import time
from collections import Counter

import pytest
from msgspec.structs import replace

from statera.wire import ListenerSpec, MonitorSpec, PersistenceSpec


def with_pool(spec, **changes):
    return replace(spec, version=spec.version + 1, pools=(replace(spec.pools[0], **changes), *spec.pools[1:]))


def with_listener(spec, **changes):
    listeners = (replace(spec.listeners[0], **changes), *spec.listeners[1:])
    return replace(spec, version=spec.version + 1, listeners=listeners)


def who(lab, count=12, **options):
    return Counter(lab.get(**options)["who"].rsplit(".", 1)[1] for _ in range(count))


def test_members_come_and_go_in_the_same_worker(lab, node, serving):
    pids = node.pids(serving)
    ten, eleven = serving.pools[0].members
    for members, expected in [
        ((ten, eleven, lab.member(12)), {"10": 4, "11": 4, "12": 4}),
        ((ten, lab.member(12)), {"10": 6, "12": 6}),
        ((ten, lab.member(12, weight=3)), {"10": 3, "12": 9}),
        ((ten, lab.member(12, weight=0)), {"10": 12}),
        ((replace(ten, enabled=False), lab.member(12)), {"12": 12}),
        ((lab.member(13), lab.member(14)), {"13": 6, "14": 6}),
    ]:
        serving = with_pool(serving, members=members)
        applied = node.put(serving)
        assert (applied.failure, applied.how) == (None, "runtime")
        counted = who(lab)
        assert set(counted) == set(expected)
        assert all(abs(counted[last] - expected[last]) <= 1 for last in expected)
        print(f"\n{len(members)} members: {applied.seconds * 1000:.0f} ms", end="")
    assert node.pids(serving) == pids


def test_five_hundred_members_at_once(lab, node, serving):
    members = tuple(lab.member(10 + n % 30, protocol_port=1000 + n) for n in range(500))
    members = tuple(replace(member, id=f"{member.id}-{n}") for n, member in enumerate(members))
    pids = node.pids(serving)
    applied = node.put(with_pool(serving, members=members))
    assert (applied.failure, applied.how) == (None, "runtime")
    fewer = node.put(replace(with_pool(serving, members=members[:1]), version=3))
    print(f"\n500 members: {applied.seconds:.3f} s, removed in {fewer.seconds:.3f} s")
    assert (fewer.failure, fewer.how) == (None, "runtime")
    assert members[0].id in node.servers(serving)
    assert members[1].id not in node.servers(serving)
    assert node.pids(serving) == pids


def test_a_removed_member_finishes_its_connections(lab, node, serving, wait_until):
    members = (lab.member(10, protocol_port=90), lab.member(11, protocol_port=90))
    tcp = replace(serving, version=2, listeners=(replace(serving.listeners[0], protocol="TCP"),),
                  pools=(replace(serving.pools[0], protocol="TCP", members=members),))
    assert node.put(tcp).how == "reload"
    with socket.create_connection((lab.vip, 80)) as first, socket.create_connection((lab.vip, 80)) as second:
        lines = {connection: say(connection) for connection in (first, second)}
        assert node.put(with_pool(tcp, members=members[:1])).how == "runtime"
        assert {connection: say(connection) for connection in (first, second)} == lines
        with socket.create_connection((lab.vip, 80)) as third:
            assert say(third).startswith(f"{lab.net}.10 ")
    took = wait_until(lambda: members[1].id not in node.servers(tcp))
    print(f"\ndeleted {took:.2f} s after its last connection")


def say(connection: socket.socket) -> str:
    connection.sendall(b"hello\n")
    return connection.recv(100).decode()


def test_a_connection_outlives_reloads(lab, node, serving):
    tcp = replace(serving, version=2, listeners=(replace(serving.listeners[0], protocol="TCP"),), pools=(
        replace(serving.pools[0], protocol="TCP", members=(lab.member(10, protocol_port=90),)),))
    node.put(tcp)
    with socket.create_connection((lab.vip, 80)) as connection:
        assert say(connection)
        for delay in (11, 12):
            tcp = with_pool(tcp, monitor=MonitorSpec(type="TCP", delay=delay, timeout=5, max_retries=2))
            assert node.put(tcp).how == "reload"
        assert say(connection).endswith("hello\n")


def test_an_idle_client_is_answered_after_a_reload_and_old_workers_end(lab, node, serving, wait_until):
    serving = with_listener(serving, timeout_client_data=2_000)
    node.put(serving)
    request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
    with socket.create_connection((lab.vip, 80)) as asks, socket.create_connection((lab.vip, 80)) as rests:
        for client in (asks, rests):
            client.sendall(request)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        old = node.pids(serving)[-1]
        assert node.put(with_listener(serving, timeout_client_data=2_001)).how == "reload"
        asks.sendall(request)
        assert b"connection: close" in asks.recv(4096)
        wait_until(lambda: old not in node.pids(serving))
        assert rests.recv(1) == b""


def test_a_disabled_listener_refuses_and_comes_back(lab, node, serving):
    pids = node.pids(serving)
    disabled = replace(serving, version=2, listeners=(), pools=())
    assert node.put(disabled).how == "runtime"
    with pytest.raises(ConnectionRefusedError):
        lab.get()
    again = with_pool(replace(serving, version=2), members=(lab.member(12),))
    assert node.put(again).how == "runtime"
    assert who(lab) == {"12": 12}
    assert node.pids(serving) == pids
    off = replace(again, version=4, enabled=False)
    assert node.put(off).how == "runtime"
    with pytest.raises(ConnectionRefusedError):
        lab.get()
    another = ListenerSpec(id="more", protocol="HTTP", protocol_port=81, default_pool_id=again.pools[0].id)
    more = replace(again, version=5, listeners=(*again.listeners, another))
    assert node.put(more).how == "reload"
    assert who(lab) == who(lab, port=81) == {"12": 12}


def test_a_connection_limit_changes_in_the_same_worker(lab, node, serving, wait_until):
    pids = node.pids(serving)
    assert node.put(with_listener(serving, connection_limit=1)).how == "runtime"
    with socket.create_connection((lab.vip, 80)):
        wait_until(lambda: node.words("listeners") == {serving.listeners[0].id: "FULL"})
    assert node.put(replace(serving, version=3)).how == "runtime"
    wait_until(lambda: node.words("listeners") == {serving.listeners[0].id: "OPEN"})
    assert node.pids(serving) == pids


def test_nobody_notices_fifty_member_changes_and_ten_listener_changes(lab, node, serving):
    base = serving
    with lab.load(clients=16) as came:
        for step in range(60):
            if step % 6 == 5:
                extra = ListenerSpec(id=f"extra-{step}", protocol="HTTP", protocol_port=8000 + step,
                                     default_pool_id=base.pools[0].id)
                serving = replace(serving, version=serving.version + 1, listeners=(base.listeners[0], extra))
            else:
                members = tuple(lab.member(10 + (step + n) % 20, weight=1 + n) for n in range(3))
                serving = with_pool(serving, members=members)
            applied = node.put(serving)
            assert applied.failure is None
            time.sleep(0.05)
        while node.words("counters")[base.listeners[0].id].total_connections < 10_500:
            time.sleep(0.1)
    requests = sum(came["outcome"].values())
    print(f"\n{requests} requests in {came['seconds']:.1f} s: {came['outcome']}")
    assert set(came["outcome"]) == {"200"}
    assert requests >= 20_000


def test_inserted_headers_reach_the_member(lab, node, serving):
    names = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP", "X-Real-IP")
    node.put(with_listener(serving, insert_headers=dict.fromkeys(names, "true")))
    seen = {name.lower(): value for name, value in lab.get(headers="X-Real-IP: 1.2.3.4\r\n")["headers"].items()}
    assert {name: seen[name.lower()] for name in names} == {
        "X-Forwarded-For": f"{lab.net}.1", "X-Forwarded-Port": "80", "X-Forwarded-Proto": "http",
        "X-Forwarded-IP": f"{lab.net}.1", "X-Client-IP": f"{lab.net}.1", "X-Real-IP": f"{lab.net}.1"}


def test_allowed_cidrs_let_in_whom_they_name(lab, node, serving, wait_until):
    one, two = f"{lab.net}.1", f"{lab.net}.2"
    with socket.create_connection((lab.vip, 80), source_address=(two, 0)) as kept:
        assert node.put(with_listener(serving, allowed_cidrs=(f"{one}/32", "fd00::/64"))).how == "runtime"
        assert lab.get(source=one)
        with pytest.raises(TimeoutError):
            lab.get(source=two)
        kept.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")
    node.put(replace(serving, version=3))
    assert lab.get(source=two)


@pytest.mark.parametrize("kind", ["SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"])
def test_a_client_stays_with_its_member(lab, node, serving, kind):
    persistence = PersistenceSpec(type=kind, cookie_name="APP" if kind == "APP_COOKIE" else None)
    serving = with_pool(serving, session_persistence=persistence)
    node.put(serving)
    first = lab.get()
    cookie = "; ".join(line.split(";")[0] for line in first["cookies"] if kind != "HTTP_COOKIE" or "SRV" in line)
    asked = {"headers": f"Cookie: {cookie}\r\n"} if kind != "SOURCE_IP" else {}
    assert {lab.get(**asked)["who"] for _ in range(6)} == {first["who"]}
    serving = with_pool(serving, members=(*serving.pools[0].members, lab.member(12)))
    assert node.put(serving).how == "runtime"
    assert {lab.get(**asked)["who"] for _ in range(6)} == {first["who"]}
    serving = with_listener(serving, timeout_client_data=40_000)
    assert node.put(serving).how == "reload"
    assert {lab.get(**asked)["who"] for _ in range(6)} == {first["who"]}


def test_a_new_member_of_a_cookie_pool_gives_cookies(lab, node, serving):
    serving = with_pool(serving, session_persistence=PersistenceSpec(type="HTTP_COOKIE"), members=(lab.member(10),))
    node.put(serving)
    node.put(with_pool(serving, members=(lab.member(12),)))
    answer = lab.get()
    assert [line.split("=")[0] for line in answer["cookies"] if "1970" not in line] == ["APP", "SRV"]


def test_a_dead_member_is_noticed_and_left_alone(lab, node, serving, wait_until):
    monitor = MonitorSpec(type="HTTP", delay=1, timeout=1, max_retries=1, max_retries_down=1, url_path="/healthy")
    alive, dead = lab.member(10), lab.member(11, protocol_port=81)
    serving = with_pool(serving, monitor=monitor, members=(alive, dead))
    node.put(serving)
    wait_until(lambda: node.words("members").get(dead.id, "").startswith("DOWN"))
    assert who(lab) == {"10": 12}
    assert node.words("members")[alive.id] == "UP"
    assert node.words("pools") == {serving.pools[0].id: "UP"}
    node.put(with_pool(serving, members=(alive, replace(dead, monitor_port=90), lab.member(12))))
    moved = with_pool(serving, members=(alive, replace(dead, monitor_address=f"{lab.net}.12", monitor_port=80)))
    moved = replace(moved, version=moved.version + 1)
    assert node.put(moved).how == "runtime"
    wait_until(lambda: node.words("members")[dead.id] == "UP")


def test_source_ip_clients_keep_their_member_when_others_come(lab, node, serving):
    serving = with_pool(serving, lb_algorithm="SOURCE_IP")
    assert node.put(serving).how == "reload"
    before = lab.get()["who"]
    assert who(lab, 6) == {before.rsplit(".", 1)[1]: 6}
    assert node.put(with_pool(serving, members=(*serving.pools[0].members, lab.member(12, weight=5)))).how == "runtime"
    assert len(who(lab, 6)) == 1


def test_members_learn_the_client_by_the_proxy_protocol(lab, node, serving):
    members = (lab.member(10, protocol_port=90),)
    serving = replace(serving, version=2, listeners=(replace(serving.listeners[0], protocol="TCP"),),
                      pools=(replace(serving.pools[0], protocol="PROXY", members=members),))
    assert node.put(serving).how == "reload"
    added = with_pool(serving, members=(lab.member(11, protocol_port=90),))
    assert node.put(added).how == "runtime"
    with socket.create_connection((lab.vip, 80)) as connection:
        assert say(connection).startswith(f"{lab.net}.11 PROXY TCP4 {lab.net}.1 {lab.vip} ")


def test_backup_members_serve_when_no_other_can(lab, node, serving):
    first = lab.member(10)
    backups = (lab.member(12, backup=True), lab.member(13, backup=True))
    assert node.put(with_pool(serving, members=(first, *backups))).how == "runtime"
    assert who(lab) == {"10": 12}
    alone = with_pool(serving, members=(replace(first, enabled=False), *backups))
    assert node.put(replace(alone, version=3)).how == "runtime"
    assert set(who(lab)) == {"12", "13"}
