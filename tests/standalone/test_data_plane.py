# SPDX-License-Identifier: Apache-2.0
"""From the API to the packet and back, with one `statera up`: every operating status, certificates all their life."""

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
import urllib.error
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from certificates import Authority
from running import Hello, Host, within

from statera.commands.home import CONFIGURATION

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="statera up needs root")

GATEWAY = "198.18.7.1"
ROOT = Authority("root")
FIRST, SECOND = (ROOT.certificate_for("www.example.com") for _ in range(2))


class Cloud:
    """A host that runs Statera, with one network, and web servers on the host itself."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.state.mkdir()
        configuration = CONFIGURATION.format(state=host.state, binds=Binds(host))
        (host.state / "octavia.conf").write_text(f"{configuration}\n[house_keeping]\ncleanup_interval = 1\n")
        host.start()
        network = host.call("network/v2.0/networks", network={"name": "web"})["network"]
        self.subnet = host.call("network/v2.0/subnets", subnet={
            "network_id": network["id"], "cidr": "198.18.7.0/24", "ip_version": 4})["subnet"]["id"]
        assert within(10, lambda: host.serve(GATEWAY))

    def two_ports(self) -> tuple[int, int]:
        """Where web servers listen."""
        assert self.host.serve(GATEWAY)
        first, *_, last = self.host.servers
        return first.server_port, last.server_port

    def put(self, path: str, **body: Any) -> None:
        self.ask("PUT", f"/v2/lbaas/{path}", json.dumps(body))

    def ask(self, verb: str, path: str, body: str, kind: str = "application/json") -> None:
        """As the administrator. Raise `HTTPError` for a refusal."""
        auth = msgspec.yaml.decode((self.host.state / "clouds.yaml").read_bytes())["clouds"]["statera"]["auth"]
        credentials = base64.b64encode(f"{auth['username']}:{auth['password']}".encode()).decode()
        link = http.client.HTTPConnection(self.host.api, timeout=10)
        with contextlib.closing(link):
            link.request(verb, path, body, {"Authorization": f"Basic {credentials}", "Content-Type": kind})
            answer = link.getresponse()
            text = answer.read().decode()
            if answer.status >= 300:
                raise urllib.error.HTTPError(path, answer.status, text, answer.headers, None)

    def create(self, name: str, *listeners: dict[str, Any], **more: Any) -> dict[str, Any]:
        tree = {"name": name, "vip_subnet_id": self.subnet, "listeners": listeners, **more}
        made: dict[str, Any] = self.host.call("v2/lbaas/loadbalancers", loadbalancer=tree)["loadbalancer"]
        return made

    def statuses(self, load_balancer: dict[str, Any]) -> dict[str, str]:
        """The operating status of all that has one, by name, without what hangs on a load balancer of another name."""
        tree = self.host.call(f"v2/lbaas/loadbalancers/{load_balancer['id']}/status")["statuses"]["loadbalancer"]
        lone = self.host.call(f"v2/lbaas/pools?loadbalancer_id={load_balancer['id']}")["pools"]
        found = {pool["name"]: pool["operating_status"] for pool in lone}
        return found | dict(named(tree))

    def settles(self, load_balancer: dict[str, Any], expected: dict[str, str], seconds: float = 20) -> None:
        """Wait until all statuses are as expected."""
        within(seconds, lambda: self.statuses(load_balancer) == expected)
        assert self.statuses(load_balancer) == expected


class Binds:
    """Where the services listen, as `CONFIGURATION` spells it."""

    def __init__(self, host: Host) -> None:
        self.api, self.nodes = Bind(host.api), Bind(host.nodes)


class Bind(str):
    @property
    def host(self) -> str:
        return self.rpartition(":")[0]

    @property
    def port(self) -> str:
        return self.rpartition(":")[2]


def named(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield tree["name"], tree["operating_status"]
    for children in ("listeners", "pools", "members"):
        for child in tree.get(children, ()):
            yield from named(child)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with contextlib.closing(Host(tmp_path_factory.mktemp("host") / "state")) as host:
        yield Cloud(host)


def member(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "address": GATEWAY, "protocol_port": port, **more}


def pool(name: str, *members: dict[str, Any], monitored: bool = False, **more: Any) -> dict[str, Any]:
    monitor = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}
    check = {"healthmonitor": monitor} if monitored else {}
    return {"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members, **check, **more}


def listener(name: str, port: int, default_pool: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "protocol": "HTTP", "protocol_port": port, "default_pool": default_pool, **more}


def dead_port() -> int:
    """One where nobody listens."""
    with socket.create_server((GATEWAY, 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.carries("operating_status ONLINE", "operating_status ERROR", "operating_status DEGRADED",
                     "operating_status DRAINING", "operating_status NO_MONITOR", "operating_status OFFLINE")
def test_every_object_has_the_status_that_it_deserves(cloud: Cloud) -> None:
    (well, other), ill = cloud.two_ports(), dead_port()
    ailing = cloud.create(
        "ailing",
        listener("l-some", 80, pool("some", member("well", well), member("ill", ill), monitored=True)),
        listener("l-more", 81, pool(
            "more", member("drained", well, weight=0), member("switched off", well + 1, admin_state_up=False),
            member("serves", well + 2, weight=2), monitored=False)),
        listener("l-off", 82, pool("of-nobody", member("unasked", well)), admin_state_up=False),
        listener("l-pool-off", 83, pool("off", member("of none", well), admin_state_up=False)))
    broken = cloud.create("broken", listener("l-none", 80, pool("none", member("gone", ill), monitored=True)))
    fine = cloud.create("fine", listener("l-all", 80, pool(
        "all", member("one", well), member("leaving", other, weight=0), monitored=True)))
    cloud.settles(broken, {"broken": "ERROR", "l-none": "ONLINE", "none": "ERROR", "gone": "ERROR"})
    cloud.settles(fine, {"fine": "ONLINE", "l-all": "ONLINE", "all": "ONLINE", "one": "ONLINE", "leaving": "DRAINING"})
    cloud.settles(ailing, {
        "ailing": "DEGRADED", "l-some": "ONLINE", "some": "DEGRADED", "well": "ONLINE", "ill": "ERROR",
        "l-more": "ONLINE", "more": "ONLINE", "drained": "DRAINING", "switched off": "OFFLINE", "serves": "NO_MONITOR",
        "l-off": "OFFLINE", "of-nobody": "OFFLINE", "unasked": "NO_MONITOR", "l-pool-off": "ONLINE", "off": "OFFLINE",
        "of none": "NO_MONITOR"})
    cloud.put(f"loadbalancers/{fine['id']}", loadbalancer={"admin_state_up": False})
    cloud.settles(fine, dict.fromkeys(("fine", "l-all", "all", "one", "leaving"), "OFFLINE"))


@pytest.mark.carries("a member's death and return, within a report")
def test_a_member_that_dies_and_returns_is_noticed_at_once(cloud: Cloud) -> None:
    server = ThreadingHTTPServer((GATEWAY, 0), Hello)
    port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lb = cloud.create("noticed", listener("l", 80, pool("p", member("m", port), monitored=True)))
    states = ({"noticed": up, "l": "ONLINE", "p": up, "m": up} for up in ("ONLINE", "ERROR", "ONLINE"))
    cloud.settles(lb, next(states))
    server.shutdown()
    server.server_close()
    # One check a second later, one report after that.
    cloud.settles(lb, next(states), 10)
    again = ThreadingHTTPServer((GATEWAY, port), Hello)
    cloud.host.servers.append(again)
    threading.Thread(target=again.serve_forever, daemon=True).start()
    cloud.settles(lb, next(states), 10)


@pytest.mark.carries("operating_status DEGRADED")
def test_a_listener_that_is_full_is_degraded(cloud: Cloud) -> None:
    well = cloud.host.servers[0].server_port
    lb = cloud.create("full", listener("l", 80, pool("p", member("m", well)), connection_limit=1))
    normal = {"full": "ONLINE", "l": "ONLINE", "p": "ONLINE", "m": "NO_MONITOR"}
    cloud.settles(lb, normal)
    with socket.create_connection((lb["vip_address"], 80), timeout=5):
        cloud.settles(lb, normal | {"full": "DEGRADED", "l": "DEGRADED"})
    cloud.settles(lb, normal)


class Handshakes:
    """Whose certificate a VIP shows, again and again."""

    def __init__(self, vip: str) -> None:
        self.vip = vip
        self.context = ssl.create_default_context(cadata=ROOT.pem)

    def serial(self) -> int | None:
        try:
            with (socket.create_connection((self.vip, 443), timeout=5) as raw,
                  self.context.wrap_socket(raw, server_hostname="www.example.com") as link):
                return int(str((link.getpeercert() or {})["serialNumber"]), 16)
        except OSError:
            return None


@pytest.mark.carries("PKCS12 with a passphrase", "expiry, shown", "a renewed secret, rolled out by itself")
def test_a_certificate_is_uploaded_served_and_renewed_in_its_place(cloud: Cloud) -> None:
    locked = base64.b64encode(FIRST.pkcs12(b"hush")).decode()
    upload = {"name": "site", "payload": locked, "payload_content_encoding": "base64"}
    ref = cloud.host.call("v1/secrets", **upload, passphrase="hush")["secret_ref"]
    [shown] = cloud.host.call("v1/secrets")["secrets"]
    assert shown["expiration"] == f"{FIRST.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}"
    well = cloud.host.servers[0].server_port
    lb = cloud.create("secure", {
        "name": "l", "protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container_ref": ref,
        "default_pool": pool("p", member("m", well))})
    client = Handshakes(lb["vip_address"])
    assert within(20, lambda: client.serial() == FIRST.certificate.serial_number)
    path = "/v1/secrets/" + ref.rpartition("/")[2]
    with pytest.raises(urllib.error.HTTPError, match="there is no private key in it"):
        cloud.ask("PUT", path, SECOND.pem, "text/plain")
    cloud.ask("PUT", path, SECOND.bundle, "text/plain")
    seen = []
    assert within(20, lambda: seen.append(client.serial()) or seen[-1] == SECOND.certificate.serial_number)
    assert set(seen) <= {FIRST.certificate.serial_number, SECOND.certificate.serial_number}
    events = cloud.host.call(f"v2/lbaas/loadbalancers/{lb['id']}/events")["events"]
    assert "secret_renewed" in {event["reason"] for event in events}
