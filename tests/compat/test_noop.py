# SPDX-License-Identifier: Apache-2.0
"""etc/octavia-noop.conf: the real processes with nothing real behind them, for those who test their clients."""

import http.client
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

ROOT = Path(__file__).parent.parent.parent
PROJECT = uuid4().hex
SUBNET, NETWORK = str(uuid4()), str(uuid4())
START_SECONDS = 60
MEDIAN_MS = 1000
"""On a quiet host it is 30 ms; this one may be busy with other tests."""
TREE = {
    "name": "tree", "vip_subnet_id": str(uuid4()), "vip_qos_policy_id": str(uuid4()),
    "vip_sg_ids": [str(uuid4())], "tags": ["a"],
    "pools": [{
        "name": "web", "protocol": "HTTP", "lb_algorithm": "SOURCE_IP_PORT", "tls_enabled": True,
        "tls_container_ref": "https://keys/1", "ca_tls_container_ref": "https://keys/2",
        "crl_container_ref": "https://keys/3", "session_persistence": {"type": "HTTP_COOKIE"},
        "healthmonitor": {"type": "HTTPS", "delay": 5, "timeout": 3, "max_retries": 2},
        "members": [{"address": f"192.0.2.{n}", "protocol_port": 80, "subnet_id": str(uuid4())} for n in (1, 2)],
    }],
    "listeners": [
        {"name": "tls", "protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_pool": {"name": "web"},
         "default_tls_container_ref": "https://keys/1", "sni_container_refs": ["https://keys/4"],
         "client_ca_tls_container_ref": "https://keys/2", "client_crl_container_ref": "https://keys/3",
         "client_authentication": "MANDATORY", "hsts_max_age": 10, "insert_headers": {"X-SSL-Issuer": "true"},
         "l7policies": [{"action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "web"}, "rules": [
             {"type": "SSL_DN_FIELD", "compare_type": "REGEX", "key": "CN", "value": "a.*"}]}]},
        {"protocol": "UDP", "protocol_port": 53, "default_pool": {
            "name": "dns", "protocol": "UDP", "lb_algorithm": "SOURCE_IP",
            "healthmonitor": {"type": "UDP-CONNECT", "delay": 5, "timeout": 3, "max_retries": 2}}},
        {"protocol": "SCTP", "protocol_port": 9}, {"protocol": "PROMETHEUS", "protocol_port": 8088},
    ],
}


class Cloud:
    """octavia-api and, when wanted, octavia-worker, from the configuration with another place and port."""

    def __init__(self, folder: Path, *, has_worker: bool, **options: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        text = (ROOT / "etc/octavia-noop.conf").read_text().replace("/tmp/octavia-noop", str(folder / "noop"))
        for name, value in {"bind_port": str(self.port), **options}.items():
            text = "\n".join(f"{name} = {value}" if line.startswith(f"{name} =") else line for line in text.split("\n"))
        self.configuration = folder / "octavia-noop.conf"
        self.configuration.write_text(text)
        self.command("octavia-db-manage", "upgrade", "head").wait(START_SECONDS)
        names = ("octavia-api", "octavia-worker") if has_worker else ("octavia-api",)
        self.processes = [self.command(name) for name in names]
        self.headers = {"X-Project-Id": PROJECT, "Content-Type": "application/json"}

    def command(self, name, *args):
        program = str(Path(sys.executable).with_name(name))
        return subprocess.Popen([program, "--config-file", str(self.configuration), *args])

    def call(self, verb, path, **body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(verb, f"/v2.0{path}", msgspec.json.encode(body) if body else None, self.headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status < 500, content
        return answer.status, msgspec.json.decode(content) if content else None

    def await_start(self):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.call("GET", "/lbaas/loadbalancers")
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def settled_ms(self, id):
        """How long it takes the load balancer to become ACTIVE, or to be gone, from now on."""
        began = time.monotonic()
        while True:
            status, shown = self.call("GET", f"/lbaas/loadbalancers/{id}")
            took_ms = 1000 * (time.monotonic() - began)
            if status == 404 or shown["loadbalancer"]["provisioning_status"] == "ACTIVE":
                return took_ms
            assert took_ms < 20_000, shown
            time.sleep(0.002)

    def all(self, path):
        [many] = [value for name, value in self.call("GET", path)[1].items() if not name.endswith("_links")]
        return many

    def stop(self):
        for process in self.processes:
            process.terminate()
        assert [process.wait(30) for process in self.processes] == [0] * len(self.processes)


@contextmanager
def running(folder, *, has_worker=True, **options):
    cloud = Cloud(folder, has_worker=has_worker, **options)
    try:
        cloud.await_start()
        yield cloud
    finally:
        cloud.stop()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    with running(tmp_path_factory.mktemp("noop")) as cloud:
        yield cloud


def test_a_tree_of_every_kind_becomes_active_and_goes(cloud):
    project = uuid4().hex
    mine = f"project_id={project}"
    status, made = cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={**TREE, "project_id": project})

    assert status == 201, made
    lb, listener = made["loadbalancer"], made["loadbalancer"]["listeners"][0]
    pool = lb["pools"][0]
    cloud.settled_ms(lb["id"])
    below = {
        f"/lbaas/loadbalancers?id={lb['id']}": ("OFFLINE", 1),
        f"/lbaas/listeners?{mine}": ("OFFLINE", 4), f"/lbaas/pools?{mine}": ("OFFLINE", 2),
        f"/lbaas/healthmonitors?{mine}": ("ONLINE", 2), f"/lbaas/pools/{pool['id']}/members": ("NO_MONITOR", 2),
        f"/lbaas/l7policies?{mine}": ("ONLINE", 1),
        f"/lbaas/l7policies/{listener['l7policies'][0]['id']}/rules": ("ONLINE", 1)}
    for path, (operating, count) in below.items():
        shown = [(each["provisioning_status"], each["operating_status"]) for each in cloud.all(path)]
        assert shown == [("ACTIVE", operating)] * count, path
    assert cloud.call("DELETE", f"/lbaas/loadbalancers/{lb['id']}?cascade=true")[0] == 204
    cloud.settled_ms(lb["id"])
    assert all(cloud.all(f"/lbaas/{kind}?{mine}") == [] for kind in ("listeners", "pools", "healthmonitors"))


def test_an_amphora_looks_like_one_that_was_booted(cloud):
    lb = cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={"vip_subnet_id": str(uuid4())})[1]["loadbalancer"]
    cloud.settled_ms(lb["id"])
    [amphora] = cloud.all(f"/octavia/amphorae?loadbalancer_id={lb['id']}")
    assert (amphora["status"], amphora["role"]) == ("ALLOCATED", "STANDALONE")
    assert (amphora["ha_ip"], amphora["ha_port_id"]) == (lb["vip_address"], lb["vip_port_id"])
    empty = {name for name, value in amphora.items() if value is None}
    assert empty <= {"vrrp_priority"}
    status, outlook = cloud.call("GET", f"/lbaas/loadbalancers/{lb['id']}/plan")
    assert (status, outlook["plan"]) == (200, [])
    assert outlook["explanation"]["missing"] == ["nothing"]
    assert cloud.call("PUT", f"/octavia/amphorae/{amphora['id']}/failover")[0] == 202
    cloud.settled_ms(lb["id"])
    [successor] = cloud.all(f"/octavia/amphorae?loadbalancer_id={lb['id']}")
    assert successor["id"] != amphora["id"]


def test_each_write_is_active_within_moments(cloud):
    lb = cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={"vip_subnet_id": str(uuid4())})[1]["loadbalancer"]
    took = [cloud.settled_ms(lb["id"])]
    for port in range(1, 12):
        status, shown = cloud.call("POST", "/lbaas/listeners", listener={
            "loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": port})
        assert (status, shown["listener"]["provisioning_status"]) == (201, "PENDING_CREATE")
        took.append(cloud.settled_ms(lb["id"]))
    assert sorted(took)[len(took) // 2] < MEDIAN_MS, took


def test_providers_are_named_as_clients_expect(cloud):
    described = {provider["name"]: provider["description"] for provider in cloud.all("/lbaas/providers")}
    assert list(described) == ["amphora", "octavia", "noop_driver", "noop_driver-alt"]
    assert described["amphora"] == "The Octavia Amphora driver."
    for provider in described:
        status, made = cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={
            "vip_subnet_id": str(uuid4()), "provider": provider})
        assert (status, made["loadbalancer"]["provider"]) == (201, provider)
        cloud.settled_ms(made["loadbalancer"]["id"])


def test_without_a_worker_everything_stays_pending(tmp_path):
    with running(tmp_path, has_worker=False, auth_strategy="testing", default_provider_driver="noop_driver") as cloud:
        assert cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={"vip_subnet_id": str(uuid4())})[0] == 403
        cloud.headers["X-Roles"] = "member,reader"
        status, made = cloud.call("POST", "/lbaas/loadbalancers", loadbalancer={"vip_subnet_id": str(uuid4())})
        assert (status, made["loadbalancer"]["provider"]) == (201, "noop_driver")
        _, shown = cloud.call("GET", f"/lbaas/loadbalancers/{made['loadbalancer']['id']}?wait=ACTIVE&timeout=0.5")
        assert shown["loadbalancer"]["provisioning_status"] == "PENDING_CREATE"


PRETENDING = {"controller_worker": {"compute_driver": "noop", "network_driver": "noop"}}


def test_amphorae_that_pretend_serve_every_protocol(worlds):
    world = worlds(**PRETENDING)
    lb = world.lb(provider="amphora")
    for port, protocol in enumerate(("TCP", "HTTP", "HTTPS", "UDP", "SCTP", "PROMETHEUS"), 1):
        world.listener(lb, protocol=protocol, protocol_port=port)
    world.listener(lb, protocol="TERMINATED_HTTPS", protocol_port=443, default_tls_container_ref="any")
    for protocol in ("TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP"):
        for algorithm in ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"):
            world.pool(lb, protocol=protocol, lb_algorithm=algorithm)


def test_the_amphora_provider_refuses_what_it_refuses_by_contract(worlds):
    world = worlds(**PRETENDING)
    lb = world.lb(provider="amphora")
    listener = world.listener(lb, protocol="UDP")
    pool = world.settled(world.post("/pools", pool={
        "listener_id": listener["id"], "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN"})["pool"])
    policy = {"listener_id": listener["id"], "action": "REJECT"}
    assert world.refused(501, "POST", "/l7policies", {"l7policy": policy}) == (
        "Provider 'amphora' does not support a requested option: UDP protocol listeners do not support L7 policies")
    other = {"address": "2001:db8::1", "protocol_port": 53}
    fault = ("Provider 'amphora' does not support a requested option: This provider doesn't support mixing IPv4 and "
             "IPv6 addresses for its VIP and members in UDP load balancers.")
    assert world.refused(501, "POST", f"/pools/{pool['id']}/members", {"member": other}) == fault
    assert world.refused(501, "PUT", f"/pools/{pool['id']}/members", {"members": [other]}) == fault
    world.member(pool)


@pytest.mark.parametrize("vip", [
    pytest.param({"vip_subnet_id": SUBNET}, id="a subnet"),
    pytest.param({"vip_subnet_id": SUBNET, "vip_address": "2001:db8::7"}, id="a subnet and an address"),
    pytest.param({"vip_network_id": NETWORK}, id="a network"),
    pytest.param({"vip_network_id": NETWORK, "vip_address": "10.9.8.7"}, id="a network and an address"),
    pytest.param({"vip_network_id": NETWORK, "vip_address": "2001:db8::7"}, id="a network and an IPv6 address"),
    pytest.param({"vip_network_id": NETWORK, "vip_subnet_id": SUBNET}, id="a network and a subnet"),
    pytest.param({"vip_port_id": SUBNET}, id="a port"),
    pytest.param({"vip_subnet_id": SUBNET, "additional_vips": [
        {"subnet_id": NETWORK}, {"subnet_id": PROJECT, "ip_address": "2001:db8::8"}]}, id="additional VIPs"),
    pytest.param({"vip_subnet_id": SUBNET, "vip_qos_policy_id": NETWORK, "vip_sg_ids": [NETWORK]}, id="all else"),
])
def test_any_network_object_exists(worlds, vip):
    world = worlds(**PRETENDING)
    lb = world.post("/loadbalancers", loadbalancer={"project_id": PROJECT, **vip})["loadbalancer"]
    named = {name: value for name, value in vip.items() if name != "additional_vips"}
    assert {name: lb[name] for name in named} == named
    assert all(lb[name] for name in ("vip_address", "vip_network_id", "vip_subnet_id", "vip_port_id"))
    assert len(lb["additional_vips"]) == len(vip.get("additional_vips", ()))


def test_the_noop_provider_takes_any_flavor(worlds):
    world = worlds(**PRETENDING)
    profile = {"name": "f", "flavor_data": '{"image": "ubuntu"}'}
    world.post("/flavorprofiles", flavorprofile={**profile, "provider_name": "noop_driver"})
    world.refused(501, "POST", "/flavorprofiles", {"flavorprofile": {**profile, "provider_name": "amphora"}})
