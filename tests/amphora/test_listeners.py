# SPDX-License-Identifier: Apache-2.0
"""Listeners of every kind on one amphora, side by side: what each lets in, says, waits for and sends on."""

import contextlib
import http.client
import json
import socket
import time
from collections import Counter

import pytest
from amphora.datagrams import asked
from msgspec.structs import replace

from statera.wire import Address, ListenerSpec, MemberSpec, PersistenceSpec, PoolSpec

HEADERS = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-IP", "X-Client-IP", "X-Real-IP")
EVERYTHING = dict.fromkeys(HEADERS, "true")
NOBODY = 250
"""The last part of an address that nobody has."""


def pools(lab):
    """Pools by id: members 10, 11, … on the port that is asked for."""
    def pool(id, *last, protocol="HTTP", port=80, lb_algorithm="ROUND_ROBIN", **changes):
        members = changes.pop("members", tuple(lab.member(one, protocol_port=port) for one in last))
        return PoolSpec(id=id, protocol=protocol, lb_algorithm=lb_algorithm, members=members, **changes)

    six = MemberSpec(id="six", address=f"{lab.net6}10", protocol_port=80)
    return (
        pool("web", 10, 11), pool("echo", 10, 11, protocol="TCP", port=90), pool("nobody", NOBODY),
        pool("six", members=(six,)), pool("six-names", protocol="UDP", members=(replace(six, protocol_port=90),)),
        pool("names", 10, 11, protocol="UDP", port=90),
        pool("proxy", 10, protocol="PROXY", port=70), pool("proxy2", 10, protocol="PROXYV2", port=70),
        pool("weighted", members=(lab.member(10, weight=3), lab.member(11), lab.member(12, weight=0))),
        pool("least", 10, 11, lb_algorithm="LEAST_CONNECTIONS"),
        pool("source", 10, 11, 12, 13, lb_algorithm="SOURCE_IP"),
        pool("sticky", 10, 11, session_persistence=PersistenceSpec(type="SOURCE_IP", persistence_timeout=2)),
        pool("cookie", 10, 11, session_persistence=PersistenceSpec(type="HTTP_COOKIE")),
        pool("app", 10, 11, session_persistence=PersistenceSpec(type="APP_COOKIE", cookie_name="APP")),
        pool("spare", members=(
            lab.member(10, enabled=False), lab.member(11, backup=True), lab.member(12, backup=True))),
    )


def listener(port, protocol="HTTP", pool="web", **changes):
    return ListenerSpec(id=f"{protocol}-{port}", protocol=protocol, protocol_port=port, default_pool_id=pool, **changes)


def listeners(lab):
    some = (f"{lab.net}.1/32", f"{lab.net6}1/128")
    return (
        listener(80, insert_headers=EVERYTHING),
        listener(81, insert_headers={**EVERYTHING, "X-Forwarded-For": "false"}),
        listener(82, pool=None), listener(83, "TCP", None), listener(84, "TCP", "echo"), listener(85, "TCP", "web"),
        listener(86, timeout_client_data=700), listener(87, "TCP", "echo", timeout_client_data=700),
        listener(88, timeout_member_data=700), listener(89, pool="nobody", timeout_member_connect=50),
        listener(90, pool="nobody", timeout_member_connect=400),
        listener(91, "TCP", "echo", timeout_tcp_inspect=3000),
        listener(92, "TCP", "echo", connection_limit=1), listener(93, connection_limit=1),
        listener(94, allowed_cidrs=some), listener(95, "TCP", "echo", allowed_cidrs=some),
        listener(96, "UDP", "names", allowed_cidrs=some), listener(96, "TCP", "echo"),
        listener(99, "UDP", "six-names", allowed_cidrs=some),
        listener(97, pool="six"), listener(98, "UDP", "six-names"),
        listener(100, pool="proxy"), listener(101, pool="proxy2"), listener(102, "TCP", "proxy"),
        listener(103, "TCP", "proxy2"), listener(104, pool="proxy", insert_headers=EVERYTHING),
        *(listener(110 + number, pool=pool) for number, pool in enumerate(
            ("weighted", "least", "source", "sticky", "cookie", "app", "spare"))),
    )


WEIGHTED, LEAST, SOURCE, STICKY, COOKIE, APP, SPARE = range(110, 117)


@pytest.fixture(scope="module")
def spec(wide):
    """Two VIPs of version 4, in subnets of their own, and one of version 6."""
    made = wide.spec()
    own = (Address(ip=f"{wide.net6}100", prefix=64), Address(ip=f"{wide.other_net}.100", prefix=24))
    vips = (Address(ip=wide.vip6, prefix=64), Address(ip=f"{wide.other_net}.200", prefix=24))
    [leg] = made.interfaces
    made = replace(
        made, interfaces=(replace(leg, addresses=(*leg.addresses, *own)),), vips=(*made.vips, *vips),
        listeners=listeners(wide), pools=pools(wide))
    [node] = wide.hosts
    node.carry(wide.network, made.amphora_id)
    assert node.put(made).failure is None
    return made


@pytest.fixture
def node(wide, spec):
    return wide.hosts[0]


def ask(lab, port=80, path="/", *, ip=None, source=None, **headers):
    """The status, what the member said, and the cookies that came with it."""
    where = (source, 0) if source else None
    with contextlib.closing(http.client.HTTPConnection(ip or lab.vip, port, 5, source_address=where)) as link:
        link.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = link.getresponse()
        body = answer.read()
        said = json.loads(body) if answer.status == 200 else {}
        cookies = answer.headers.get_all("Set-Cookie", [])
        return answer.status, said, "; ".join(each.partition(";")[0] for each in cookies)


def who(lab, port, count=1, **options):
    """Which members answered how often, by the last part of their addresses."""
    return dict(Counter(ask(lab, port, **options)[1]["who"].rsplit(".")[-1] for _ in range(count)))


@contextlib.contextmanager
def talk(lab, port, *, source="", ip=None, wait=5):
    with socket.create_connection((ip or lab.vip, port), timeout=wait, source_address=(source, 0)) as link:
        yield link


def line(link, text=b"x\n"):
    link.sendall(text)
    return link.recv(100)


def took(act):
    started = time.monotonic()
    act()
    return time.monotonic() - started


# What is let in and what is said.


@pytest.mark.carries("HTTP listener", "insert_headers", "several listeners")
def test_headers_that_are_wished_are_set_and_others_are_the_clients_own(wide, spec):
    mine = {name.replace("-", "_"): "false" for name in HEADERS}
    seen = {name.lower(): value for name, value in ask(wide, source=f"{wide.net}.50", **mine)[1]["headers"].items()}
    me = dict.fromkeys(("x-forwarded-ip", "x-client-ip", "x-real-ip"), f"{wide.net}.50")
    assert {name: seen[name] for name in me} == me
    assert (seen["x-forwarded-port"], seen["x-forwarded-proto"]) == ("80", "http")
    assert seen["x-forwarded-for"] == f"{wide.net}.50"
    seen = {name.lower(): value for name, value in ask(wide, 81, X_Forwarded_For="mine")[1]["headers"].items()}
    assert (seen["x-forwarded-for"], seen["x-forwarded-port"]) == ("mine", "81")


@pytest.mark.carries("no default pool")
def test_without_a_pool_http_is_told_so_and_tcp_is_closed(wide, spec):
    assert ask(wide, 82)[0] == 503
    with talk(wide, 83) as link:
        assert not link.recv(1)


@pytest.mark.carries("TCP listener", "pool protocol TCP")
def test_bytes_pass_both_ways(wide, spec):
    with talk(wide, 84) as link:
        assert line(link, b"hello\n").endswith(b" hello\n")
        assert line(link, b"again\n").endswith(b" again\n")


@pytest.mark.carries("HTTP pool of a TCP listener")
def test_a_tcp_listener_with_an_http_pool_speaks_http(wide, spec):
    assert ask(wide, 85)[0] == 200
    with talk(wide, 85) as link:
        assert line(link, b"no http\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.carries("allowed_cidrs, HTTP", "allowed_cidrs, TCP", "allowed_cidrs, UDP")
@pytest.mark.parametrize(("family", "names"), [("IPv4", 96), ("IPv6", 99)])
def test_only_who_is_allowed_hears_anything(wide, spec, family, names):
    net, vip = (f"{wide.net}.", wide.vip) if family == "IPv4" else (wide.net6, wide.vip6)
    friend, stranger = f"{net}1", f"{net}2"
    assert ask(wide, 94, ip=vip, source=friend)[0] == 200
    with talk(wide, 95, ip=vip, source=friend) as link:
        assert line(link)
    assert sum(asked(wide, 2, ip=vip, source=friend, port=names).values()) == 2
    for port in (94, 95):
        with pytest.raises(TimeoutError), talk(wide, port, ip=vip, source=stranger, wait=0.3):
            pass
    with pytest.raises(TimeoutError):
        asked(wide, 1, ip=vip, source=stranger, port=names)
    # TCP has this port's number too, and asks nobody who he is.
    with talk(wide, 96, ip=vip, source=stranger) as link:
        assert line(link)


# How many, and how long.


@pytest.mark.carries("connection_limit")
@pytest.mark.parametrize("port", [92, 93])
def test_who_comes_after_the_limit_waits_until_another_leaves(wide, spec, node, wait_until, port):
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" if port == 93 else b"x\n"
    first, second = (socket.create_connection((wide.vip, port), timeout=5) for _ in range(2))
    with first, second:
        assert line(first, request)
        second.sendall(request)
        second.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.recv(100)
        node.wait(lambda _: "FULL" in (node.words("listeners").get(f"{kind}-{port}") for kind in ("TCP", "HTTP")))
        first.close()
        second.settimeout(5)
        assert second.recv(100)
    node.wait(lambda _: set(node.words("listeners").values()) == {"OPEN"})


@pytest.mark.carries("timeout_client_data")
def test_a_client_that_says_nothing_is_left(wide, spec):
    with talk(wide, 86) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost:")
        answers = []
        assert 0.6 < took(lambda: answers.append(link.recv(100))) < 5
        assert answers[0].startswith(b"HTTP/1.1 408")
    with talk(wide, 87) as link:
        assert line(link)
        assert 0.6 < took(lambda: link.recv(1)) < 5


@pytest.mark.carries("timeout_member_data")
def test_a_member_that_thinks_too_long_is_left(wide, spec):
    assert ask(wide, 80, X_Wait="1")[0] == 200
    answers = []
    assert 0.6 < took(lambda: answers.append(ask(wide, 88, X_Wait="5")[0])) < 4
    assert answers == [504]


@pytest.mark.carries("timeout_member_connect")
def test_a_member_that_is_not_there_is_waited_for_as_long_as_is_said(wide, spec):
    answers = []
    short, long = (took(lambda port=port: answers.append(ask(wide, port)[0])) for port in (89, 90))
    assert answers == [503, 503]
    assert 4 * 0.05 * 0.9 < short < long
    assert long > 4 * 0.4 * 0.9


@pytest.mark.carries("timeout_tcp_inspect")
def test_inspection_keeps_nobody_waiting_who_need_not_be_inspected(wide, spec):
    with talk(wide, 91) as link:
        assert took(lambda: line(link)) < 2.5


# VIPs.


@pytest.mark.carries("additional VIPs, HTTP and TCP", "IPv6 VIP with IPv4 members", "IPv4 VIP with IPv6 members")
def test_every_vip_leads_to_members_of_either_family(wide, spec):
    for ip in (wide.vip, wide.vip6, f"{wide.other_net}.200"):
        assert ask(wide, ip=ip)[1]["who"] in (f"::ffff:{wide.net}.10", f"::ffff:{wide.net}.11", f"{wide.net}.10",
                                              f"{wide.net}.11")
        assert ask(wide, 97, ip=ip)[1]["who"] == f"{wide.net6}10"


@pytest.mark.carries("IPv6, UDP")
def test_datagrams_find_members_of_their_own_family(wide, spec):
    assert asked(wide, 2, ip=wide.vip6, port=98) == {"10": 2}
    with pytest.raises(ConnectionRefusedError):
        asked(wide, 1, port=98)


# Pools.


@pytest.mark.carries("ROUND_ROBIN", "weight", "pool protocol HTTP")
def test_members_take_turns_by_weight(wide, spec):
    assert who(wide, WEIGHTED, 8) == {"10": 6, "11": 2}


@pytest.mark.carries("LEAST_CONNECTIONS")
def test_who_has_least_to_do_is_next(wide, spec, node):
    with talk(wide, LEAST) as busy:
        busy.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Wait: 4\r\n\r\n")
        node.wait(lambda _: (counters := node.words("counters").get(f"HTTP-{LEAST}"))
                  and counters.active_connections == 1)
        others = set()
        for _ in range(4):
            others |= who(wide, LEAST).keys()
            time.sleep(0.05)  # HAProxy counts a request until a little after its answer has come
        assert len(others) == 1
        assert json.loads(busy.recv(4096).partition(b"\r\n\r\n")[2])["who"].rsplit(".")[-1] not in others


@pytest.mark.carries("SOURCE_IP")
def test_a_source_keeps_its_member_and_sources_spread(wide, spec):
    sources = [f"{wide.net}.{last}" for last in range(50, 58)]
    first = [who(wide, SOURCE, source=source) for source in sources]
    assert len({str(each) for each in first}) > 1
    assert [who(wide, SOURCE, source=source) for source in sources] == first


@pytest.mark.carries("SOURCE_IP persistence, with timeout")
def test_a_client_stays_until_it_was_silent_for_the_timeout(wide, spec):
    [mine] = who(wide, STICKY, 4, source=f"{wide.net}.51")
    theirs = who(wide, STICKY, source=f"{wide.net}.52")
    assert {mine} != set(theirs)
    until = time.monotonic() + 20
    while who(wide, STICKY, source=f"{wide.net}.51") == {mine: 1}:
        time.sleep(2.5)
        assert time.monotonic() < until
        who(wide, STICKY, source=f"{wide.net}.5{int(time.monotonic()) % 5 + 3}")


@pytest.mark.carries("HTTP_COOKIE persistence")
def test_a_cookie_of_ours_brings_a_client_back(wide, spec):
    _, said, cookies = ask(wide, COOKIE)
    assert "SRV=" in cookies
    assert who(wide, COOKIE, 4, Cookie=cookies) == {said["who"].rsplit(".")[-1]: 4}
    assert len(who(wide, COOKIE, 4)) == 2


@pytest.mark.carries("APP_COOKIE persistence")
def test_a_cookie_of_the_applications_brings_a_client_back(wide, spec):
    cookies = dict(ask(wide, APP)[::-2] for _ in range(2))
    assert len(cookies) == 2
    for cookie, (_, said, _) in zip(cookies, [ask(wide, APP, Cookie=cookie) for cookie in cookies], strict=True):
        assert cookie == f"APP={said['who']}"
    assert len(who(wide, APP, 4)) == 2


@pytest.mark.carries("backup members")
def test_all_backups_serve_when_no_other_member_does(wide, spec):
    assert who(wide, SPARE, 4) == {"11": 2, "12": 2}


# PROXY.


def heard(lab, port):
    """What the member heard before the first byte of the client, and the client's own address."""
    with talk(lab, port, source=f"{lab.net}.50") as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: link.recv(65536), b""))
        whole = bytes.fromhex(json.loads(answer.partition(b"\r\n\r\n")[2])["heard"])
        return whole[:whole.index(b"GET / ")], whole, link.getsockname()[1]


@pytest.mark.carries("pool protocol PROXY")
@pytest.mark.parametrize("port", [100, 102])
def test_members_are_told_in_words_who_asks(wide, spec, port):
    head, _, mine = heard(wide, port)
    assert head.decode() == f"PROXY TCP4 {wide.net}.50 {wide.vip} {mine} {port}\r\n"


@pytest.mark.carries("pool protocol PROXYV2")
@pytest.mark.parametrize("port", [101, 103])
def test_members_are_told_in_bytes_who_asks(wide, spec, port):
    head, _, mine = heard(wide, port)
    there = socket.inet_aton(f"{wide.net}.50") + socket.inet_aton(wide.vip)
    ports = mine.to_bytes(2, "big") + port.to_bytes(2, "big")
    assert head[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + (len(head) - 16).to_bytes(2, "big")
    assert head[16:28] == there + ports


@pytest.mark.carries("insert_headers")
def test_headers_are_set_for_members_that_hear_proxy_as_well(wide, spec):
    _, whole, _ = heard(wide, 104)
    assert f"x-forwarded-for: {wide.net}.50\r\n".encode() in whole
