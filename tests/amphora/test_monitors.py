# SPDX-License-Identifier: Apache-2.0
"""Health monitors of every type on one amphora: what they ask, what they make of the answer, and how they count."""

import contextlib
import statistics
import subprocess
import time

import pytest
from certificates import Authority
from msgspec.structs import replace

from statera.wire import ListenerSpec, MonitorSpec, PoolSpec

MANY, CODED, COUNTED, METHOD = 20, (25, 26, 27, 28, 29), 30, 32
"""The last parts of the addresses of members: of every type, by answer, for the counts, for the requests."""

PROXIED = {"TCP": 90, "HTTP": 80, "HTTPS": 443, "TLS-HELLO": 443, "PING": None}
BY_AGENT = {"TCP": 90, "HTTP": 80, "UDP-CONNECT": 90, "SCTP": 90, "PING": None}
"""Type → the port to ask, in HAProxy's pools and in those that the kernel serves."""

PATIENT, HASTY = {"max_retries_down": 3, "max_retries": 1}, {"max_retries_down": 1, "max_retries": 3}
ANSWERS = {25: "200", 26: "204", 27: "404", 28: "205", 29: "302"}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT")


def monitor(kind, **changes):
    return MonitorSpec(**{"type": kind, "delay": 1, "timeout": 1, "url_path": "/health", **changes})


def pools(lab):
    for protocol, kinds in (("HTTP", PROXIED), ("UDP", BY_AGENT)):
        def pool(name, check, *lasts, port=90, protocol=protocol):
            members = tuple(
                replace(lab.member(last, protocol_port=80 if protocol == "HTTP" else 90, monitor_port=port),
                        id=f"{protocol}-{name}-{last}") for last in lasts)
            return PoolSpec(id=f"{protocol}-{name}", protocol=protocol, lb_algorithm="ROUND_ROBIN", members=members,
                            monitor=check)

        for kind, port in kinds.items():
            yield pool(f"{kind}-patient", monitor(kind, **PATIENT), MANY, port=port)
            yield pool(f"{kind}-hasty", monitor(kind, **HASTY), MANY, port=port)
        codes = monitor("HTTP", max_retries=1, max_retries_down=1, expected_codes="200-204,404")
        yield pool("codes", codes, *CODED, port=80)
        last = COUNTED if protocol == "HTTP" else COUNTED + 1
        yield pool("counts", monitor("HTTP", max_retries=2, max_retries_down=3), last, port=80)
        yield pool("version", monitor("HTTP", max_retries=1, http_version=1.1, domain_name="www.example.com",
                                      url_path=f"/health/{protocol}/1.1?a=b&c=%20"), METHOD, port=80)
        yield pool("nameless", monitor("HTTP", max_retries=1, http_version=1.1,
                                       url_path=f"/health/{protocol}/nameless"), METHOD, port=80)
        for method in METHODS:
            yield pool(f"method-{method}", monitor("HTTP", max_retries=1, http_method=method,
                                                   url_path=f"/health/{protocol}/{method}"), METHOD, port=80)


@pytest.fixture(scope="module")
def spec(wide, tmp_path_factory):
    """Each pool has a listener."""
    folder = tmp_path_factory.mktemp("secure")
    (folder / "members.pem").write_text(Authority("members").certificate_for("member").bundle)
    (folder / "clients.pem").write_text(Authority("clients").pem)
    wide.start_tls_members(folder / "members.pem", folder / "clients.pem")
    in_members(wide, "sysctl", "-q", "net.ipv4.icmp_ratelimit=0")
    all_pools = tuple(pools(wide))
    listeners = tuple(
        ListenerSpec(id=f"for-{pool.id}", protocol=pool.protocol, protocol_port=1000 + number, default_pool_id=pool.id)
        for number, pool in enumerate(all_pools))
    made = wide.spec(pools=all_pools, listeners=listeners)
    [node] = wide.hosts
    for last, status in ANSWERS.items():
        say(wide, last, f"/become/{status}")
    node.carry(wide.network, made.amphora_id)
    assert node.put(made).failure is None
    return made


@pytest.fixture
def node(wide, spec):
    return wide.hosts[0]


def in_members(lab, *command):
    subprocess.run(["ip", "netns", "exec", f"members-{lab.tag}", *command], check=True)


def say(lab, last, path):
    """Ask a member directly."""
    return lab.get(path, ip=f"{lab.net}.{last}")


def word(node, id):
    return node.words("members").get(id, "").partition(" ")[0]


@contextlib.contextmanager
def unwell(lab, last):
    """Nobody answers on that address any more; whoever asks hears so at once, however many do."""
    in_members(lab, "nft", "add table ip ill; add chain ip ill in { type filter hook input priority 0; };"
               f" add rule ip ill in ip daddr {lab.net}.{last} meta l4proto tcp reject with tcp reset;"
               f" add rule ip ill in ip daddr {lab.net}.{last} reject")
    try:
        yield
    finally:
        in_members(lab, "nft", "delete table ip ill")


def moments(node, ids, wanted, *, seconds=20):
    """When each member first had this word."""
    found, until = {}, time.monotonic() + seconds
    while len(found) < len(ids):
        assert time.monotonic() < until, f"not {wanted}: {set(ids) - set(found)}"
        now = time.monotonic()
        found |= {id: now for id in ids if id not in found and word(node, id) == wanted}
        time.sleep(0.02)
    return found


TYPES = [*(f"HTTP-{kind}" for kind in PROXIED), *(f"UDP-{kind}" for kind in BY_AGENT)]


@pytest.mark.carries(
    "TCP monitor", "HTTP monitor", "HTTPS monitor", "TLS-HELLO monitor", "PING monitor", "TCP monitor of datagrams",
    "HTTP monitor of datagrams", "UDP-CONNECT monitor", "SCTP monitor", "PING monitor of datagrams",
    "max_retries and max_retries_down")
def test_every_type_counts_failures_and_successes(wide, spec, node):
    patient, hasty = ([f"{kind}-{how}-{MANY}" for kind in TYPES] for how in ("patient", "hasty"))
    moments(node, [*patient, *hasty], "UP")
    with unwell(wide, MANY):
        fell = moments(node, [*patient, *hasty], "DOWN")
    rose = moments(node, [*patient, *hasty], "UP")
    pairs = list(zip(hasty, patient, strict=True))
    falls, rises = [fell[many] - fell[one] for one, many in pairs], [rose[one] - rose[many] for one, many in pairs]
    # Two checks later, a second apart; on a busy machine some reports come late, and tell of both at once.
    for gaps in (falls, rises):
        assert statistics.median(gaps) > 0.8, dict(zip(hasty, gaps, strict=True))
        assert sum(gap < 0.5 for gap in gaps) <= 2, dict(zip(hasty, gaps, strict=True))


@pytest.mark.carries("max_retries and max_retries_down")
def test_one_failure_less_or_one_success_less_changes_nothing(wide, spec, node, wait_until):
    lasts = {f"HTTP-counts-{COUNTED}": COUNTED, f"UDP-counts-{COUNTED + 1}": COUNTED + 1}

    def checks():
        """How often each was asked since its answers were set."""
        return [len(say(wide, last, "/checks")["checks"]) for last in lasts.values()]

    def become(answers):
        for last in lasts.values():
            say(wide, last, f"/become/{answers}")

    def said():
        return {word for up in list(node.said) for member, word in getattr(up, "members", {}).items()
                if member in lasts}

    # Until then they are on probation: HAProxy starts with one failure to go.
    wait_until(lambda: min(checks()) >= 3, seconds=20)
    become("503,503,200")
    wait_until(lambda: min(checks()) >= 5, seconds=20)
    assert not [word for word in said() if word.startswith("DOWN")]
    become("503,503,503,200,503,200,200")
    moments(node, lasts, "DOWN")
    assert min(checks()) >= 3
    for member in lasts:
        moments(node, [member], "UP")
        assert min(checks()) >= 6
    assert min(checks()) >= 7


@pytest.mark.carries("expected_codes")
@pytest.mark.parametrize("protocol", ["HTTP", "UDP"])
def test_the_expected_codes_and_no_others_are_well(wide, spec, node, protocol):
    good, bad = ([f"{protocol}-codes-{last}" for last in lasts] for lasts in ((25, 26, 27), (28, 29)))
    moments(node, bad, "DOWN")
    assert {word(node, id) for id in good} == {"UP"}


def host(lines):
    [found] = [line.partition(": ")[2] for line in lines if line.lower().startswith("host:")]
    return found


@pytest.mark.carries("http_method", "url_path", "http_version and domain_name")
@pytest.mark.parametrize("protocol", ["HTTP", "UDP"])
def test_what_is_asked_is_what_was_wished(wide, spec, node, wait_until, protocol):
    def heads():
        found = say(wide, METHOD, "/checks")["checks"]
        return {head.split(" ")[1].removeprefix(f"/health/{protocol}/"): head.strip().split("\r\n") for head in found
                if f"/health/{protocol}/" in head}

    wait_until(lambda: len(heads()) == len(METHODS) + 2, seconds=20)
    for method in METHODS:
        assert heads()[method][0] == f"{method} /health/{protocol}/{method} HTTP/1.0"
    first, *others = heads()["1.1?a=b&c=%20"]
    assert first == f"GET /health/{protocol}/1.1?a=b&c=%20 HTTP/1.1"
    assert host(others) == "www.example.com"
    assert host(heads()["nameless"]) == {"HTTP": wide.vip, "UDP": f"{wide.net}.{METHOD}"}[protocol]
