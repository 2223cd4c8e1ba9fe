# SPDX-License-Identifier: Apache-2.0
"""`statera up` and `statera down` as an operator meets them."""

import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from certificates import Authority
from running import BIN, Host, status, within

from statera.commands import checks
from statera.commands.home import API, NODES, Binds, Home

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="statera up needs root")


@AS_ROOT
def test_it_stops_cleanly_and_finds_everything_again(host: Host) -> None:
    host.start()
    written = (host.state / "clouds.yaml").read_text()
    assert "connected" in host.statera("status").stdout
    assert host.interrupt() == 0
    assert host.process("octavia-api") is None
    host.start()
    assert (host.state / "clouds.yaml").read_text() == written
    assert host.statera("node", "list").stdout.count("connected") == 1


@AS_ROOT
def test_traffic_does_not_notice_that_statera_is_stopped_and_started(host: Host) -> None:
    host.start()
    vip = host.balance("198.18.3.0/24", gateway="198.18.3.1")
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(status(vip))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert host.interrupt() == 0
        seen = len(statuses)
        assert within(10, lambda: len(statuses) > seen + 20)
        assert "not connected" in host.statera("status").stdout
        host.start()
    finally:
        stop.set()
        asking.join()
    assert set(statuses) == {200}
    assert "load balancers ACTIVE" in host.statera("status").stdout


@AS_ROOT
def test_down_stops_the_traffic_and_up_brings_it_back(host: Host) -> None:
    assert host.up("--detach").returncode == 0
    vip = host.balance("198.18.4.0/24", gateway="198.18.4.1")
    assert host.statera("down").returncode == 0
    assert status(vip) != 200
    assert host.up("--detach").returncode == 0
    assert within(20, lambda: status(vip) == 200)


@AS_ROOT
def test_a_service_that_is_killed_comes_back(host: Host) -> None:
    host.start()
    for name in ("octavia-worker", "statera-agent"):
        killed = host.process(name)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert within(10, lambda old=killed, name=name: host.process(name) not in (None, old))


@AS_ROOT
def test_services_do_not_outlive_a_killed_parent(host: Host) -> None:
    host.start()
    assert host.running is not None
    host.running.kill()
    host.running.communicate()
    names = ("octavia-api", "octavia-worker", "octavia-health-manager", "octavia-housekeeping", "statera-agent")
    assert within(20, lambda: not any(host.process(name) for name in names))


@AS_ROOT
def test_a_second_one_says_who_runs_already_and_down_ends_it(host: Host) -> None:
    assert host.up("--detach").returncode == 0
    again = host.up()
    assert again.returncode == 1
    assert again.stderr.startswith("statera: it runs already, as process ")
    assert host.statera("down", "--purge").returncode == 0
    assert not host.state.exists()
    assert host.process("octavia-api") is None


@AS_ROOT
def test_a_taken_port_stops_it_before_anything_is_made(host: Host) -> None:
    address, _, port = host.api.rpartition(":")
    with socket.create_server((address, int(port))):
        refused = host.up()
    assert refused.returncode == 1
    assert f"cannot listen on {host.api}: Address already in use" in refused.stderr
    assert not host.state.exists()


@AS_ROOT
def test_the_schema_of_a_newer_release_is_refused(host: Host) -> None:
    assert host.up("--detach").returncode == 0
    assert host.statera("down").returncode == 0
    with sqlite3.connect(host.state / "statera.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    database.close()
    refused = host.up()
    assert refused.returncode == 1
    assert "newer than this program's" in refused.stderr
    assert refused.stderr.count("\n") == 1


@AS_ROOT
def test_a_second_host_joins_by_what_the_token_says_to_type_drains_and_leaves(host: Host, tmp_path: Path) -> None:
    assert host.up("--detach").returncode == 0
    typed = host.statera("node", "token", "--name", "second").stdout.splitlines()[-1].split()
    there = tmp_path / "second.conf"
    there.write_text(f"[DEFAULT]\nstate_path = {tmp_path / 'second'}\n[agent]\nnode_name = second\n")
    joined = subprocess.run([str(BIN / typed[0]), *typed[1:], "--config-file", str(there)],
                            capture_output=True, text=True, timeout=60, check=False)
    assert "start `statera-agent run`" in joined.stdout, joined.stderr
    assert host.statera("node", "drain", "second").stdout == "second is drained; 0 amphorae are on it still\n"
    assert "away, drained" in host.statera("node", "list").stdout
    assert host.statera("node", "undrain", "second").returncode == 0
    assert host.statera("node", "remove", "second").stdout == "second is removed\n"
    again = host.statera("node", "remove", "second")
    assert again.stderr == "statera: there is no node second; `statera node list` shows the nodes\n"


def test_down_where_nothing_was_started_says_so(host: Host) -> None:
    refused = host.statera("down")
    assert refused.returncode == 1
    assert f"there is nothing in {host.state}" in refused.stderr


@AS_ROOT
def test_without_root_a_sentence_says_why_and_what_works() -> None:
    os.seteuid(65534)
    try:
        sentence = checks.not_root(Home(Path("/nowhere")), Binds(api=API, nodes=NODES))
    finally:
        os.seteuid(0)
    assert sentence is not None
    assert "because it makes network namespaces" in sentence
    assert "compute_driver = noop" in sentence


def test_missing_programs_are_named_as_packages(tmp_path: Path) -> None:
    assert checks.packages_missing_in(str(tmp_path)) == ["haproxy", "keepalived", "nftables", "iproute2"]


def test_everything_a_node_runs_is_here(tmp_path: Path) -> None:
    assert checks.missing_programs(Home(tmp_path), Binds(api=API, nodes=NODES)) is None


def test_help_comes_at_once_because_nothing_else_is_imported() -> None:
    script = ("import sys; from statera.commands.umbrella import statera;"
              "statera.main(['--help'], standalone_mode=False);"
              "print(sorted({'sqlalchemy', 'rich', 'falcon', 'oslo_config'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Run load balancing on this host, until Ctrl-C." in done.stdout


@AS_ROOT
def test_a_listener_terminates_tls_with_an_uploaded_certificate(host: Host) -> None:
    host.start()
    vip = host.balance("198.18.5.0/24", gateway="198.18.5.1")
    site = Authority("root").certificate_for("www.example.com")
    ref = host.call("v1/secrets", name="site", payload=site.bundle)["secret_ref"]
    [lb] = host.call("v2/lbaas/loadbalancers")["loadbalancers"]
    listener = {"loadbalancer_id": lb["id"], "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
                "default_pool_id": lb["pools"][0]["id"], "default_tls_container_ref": ref}
    host.call("v2/lbaas/listeners", listener=listener)
    context = ssl.create_default_context(cadata=site.pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    def hello() -> bool:
        with (socket.create_connection((vip, 443), timeout=5) as raw,
              context.wrap_socket(raw, server_hostname="www.example.com") as connection):
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(100)

    def answers() -> bool:
        try:
            return hello()
        except OSError:
            return False

    assert within(20, answers)
    line_of_key = site.key_pem.splitlines()[1].encode()
    told = [host.state / "statera.db", host.state / "statera.db-wal", *(host.state / "log").iterdir()]
    assert not any(line_of_key in path.read_bytes() for path in told)


@AS_ROOT
def test_udp_is_balanced_checked_and_counted_from_the_api_to_the_packet(host: Host) -> None:
    host.start()
    vip = host.balance("198.18.6.0/24", gateway="198.18.6.1")
    [lb] = host.call("v2/lbaas/loadbalancers")["loadbalancers"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        member.bind(("198.18.6.1", 0))
        echo = threading.Thread(target=_echo, args=(member,), daemon=True)
        echo.start()
        pool = host.call("v2/lbaas/pools", pool={
            "loadbalancer_id": lb["id"], "protocol": "UDP", "lb_algorithm": "SOURCE_IP_PORT"})["pool"]
        host.call("v2/lbaas/healthmonitors", healthmonitor={
            "pool_id": pool["id"], "type": "UDP-CONNECT", "delay": 3, "timeout": 1, "max_retries": 1})
        # One that listens and one that does not.
        for port in (member.getsockname()[1], 9):
            host.call(f"v2/lbaas/pools/{pool['id']}/members", member={"address": "198.18.6.1", "protocol_port": port})
        wish = {"loadbalancer_id": lb["id"], "protocol": "UDP", "protocol_port": 80, "default_pool_id": pool["id"]}
        listener = host.call("v2/lbaas/listeners", listener=wish)["listener"]

        def statuses() -> list[str]:
            members = host.call(f"v2/lbaas/pools/{pool['id']}/members")["members"]
            return sorted(member["operating_status"] for member in members)

        assert within(20, lambda: statuses() == ["ERROR", "ONLINE"])
        assert all(_echoes(vip) for _ in range(8))
        stats = f"v2/lbaas/listeners/{listener['id']}/stats"
        assert within(20, lambda: host.call(stats)["stats"]["total_connections"] >= 8), host.call(stats)
        assert status(vip) == 200
        host.call("v2/lbaas/listeners", listener={
            "loadbalancer_id": lb["id"], "protocol": "PROMETHEUS", "protocol_port": 8088})
        assert within(10, lambda: f'octavia_listener_connections_total{{listener="{listener["id"]}"}}' in _page(vip))
        member.sendto(b"", member.getsockname())
        echo.join(5)


def _echo(member: socket.socket) -> None:
    """Send everything back, until an empty datagram comes from the socket itself."""
    while True:
        data, client = member.recvfrom(2048)
        if client == member.getsockname():
            return
        member.sendto(data, client)


def _echoes(vip: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(b"hello", (vip, 80))
        return client.recv(100) == b"hello"


def _page(vip: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{vip}:8088/metrics", timeout=5) as answer:
            page: str = answer.read().decode()
            return page
    except OSError:
        return ""
