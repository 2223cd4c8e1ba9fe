# SPDX-License-Identifier: Apache-2.0
"""What an operator does to a running installation: exchange of authority and key, backup, restore, metrics."""

import json
import os
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority
from running import Host, free_bind, status, within

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="statera up needs root")


@contextmanager
def asked(vip: str):
    """Ask all the time, and see what was answered."""
    answers: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.02):
            answers.append(status(vip))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers
    finally:
        stop.set()
        asking.join()


def another(host: Host, name: str, like: str) -> str:
    """A load balancer like the one of that name; its VIP, once it answers."""
    [model] = host.call(f"v2/lbaas/loadbalancers?name={like}")["loadbalancers"]
    [port] = [server.server_port for server in host.servers[:1]]
    tree = {"name": name, "vip_subnet_id": model["vip_subnet_id"], "listeners": [{
        "protocol": "HTTP", "protocol_port": 80, "default_pool": {
            "name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [
                {"address": host.servers[0].server_address[0], "protocol_port": port}]}}]}
    vip: str = host.call("v2/lbaas/loadbalancers", loadbalancer=tree)["loadbalancer"]["vip_address"]
    assert within(30, lambda: status(vip) == 200)
    return vip


def names(host: Host) -> dict[str, str]:
    found = host.call("v2/lbaas/loadbalancers")["loadbalancers"]
    return {lb["name"]: lb["provisioning_status"] for lb in found}


def ran(host: Host, *args: str) -> str:
    done = host.statera(*args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_restored_backup_and_the_running_fleet_come_together(host: Host, tmp_path: Path) -> None:
    host.start()
    kept = host.balance("198.18.41.0/24", gateway="198.18.41.1")
    gone = another(host, "gone", like="lb")
    (tmp_path / "words").write_text("open sesame\n")
    words = ("--passphrase-file", str(tmp_path / "words"))
    assert "rows" in ran(host, "backup", "--with-keys", *words, str(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    [lb] = host.call("v2/lbaas/loadbalancers?name=lb")["loadbalancers"]
    ran(host, "secret", "add", "later", pem_file(tmp_path))
    host.send("PUT", f"v2/lbaas/listeners/{lb['listeners'][0]['id']}", listener={"connection_limit": 7})
    later = another(host, "later", like="lb")  # before an address of the one that goes is free
    host.send("DELETE", f"v2/lbaas/loadbalancers/{ids(host)['gone']}?cascade=true")
    assert within(30, lambda: names(host) == {"lb": "ACTIVE", "later": "ACTIVE"})
    assert status(gone) == 0
    with asked(kept) as answers, asked(later) as spared:
        said = ran(host, "restore", "--yes", *words, str(tmp_path / "file"))
        assert "come back: gone" in said
        assert "are not in the backup: later" in said
        assert within(60, lambda: names(host) == {"lb": "ACTIVE", "gone": "ACTIVE"})
        assert within(60, lambda: status(gone) == 200)
        shown = host.call(f"v2/lbaas/listeners/{lb['listeners'][0]['id']}")["listener"]
        assert shown["connection_limit"] == -1
        assert within(30, lambda: "nobody we know" in ran(host, "orphans"))
        enough = len(answers) + 20
        assert within(20, lambda: len(answers) > enough)
    assert set(answers) == set(spared) == {200}
    assert ran(host, "secret", "list") == ""
    ran(host, "orphans", "--release")
    assert within(40, lambda: status(later) == 0)
    assert within(40, lambda: ran(host, "orphans") == "Everything has an owner.\n")
    with asked(kept) as answers:
        host.send("PUT", f"v2/lbaas/loadbalancers/{lb['id']}", loadbalancer={"name": "renamed"})
        assert within(30, lambda: names(host).get("renamed") == "ACTIVE")
    assert set(answers) == {200}


def pem_file(folder: Path) -> str:
    (folder / "site.pem").write_text(Authority("root").certificate_for("www.example.com").bundle)
    return str(folder / "site.pem")


def ids(host: Host) -> dict[str, str]:
    return {lb["name"]: lb["id"] for lb in host.call("v2/lbaas/loadbalancers")["loadbalancers"]}


def test_authority_and_key_are_exchanged_under_traffic(host: Host) -> None:
    host.start()
    vip = host.balance("198.18.42.0/24", gateway="198.18.42.1")
    before = ran(host, "ca", "show")
    with asked(vip) as answers:
        assert "would be withdrawn" in ran(host, "ca", "rotate", "--dry-run")
        assert ran(host, "ca", "show") == before
        assert "The exchange is over" in ran(host, "ca", "rotate")
        assert "Everything is sealed with key" in ran(host, "key", "rotate")
        assert "1 of 2 keys are removed" in ran(host, "key", "prune")
    after = ran(host, "ca", "show")
    assert before.splitlines()[1].split()[0] not in after
    assert "1 health manager, 1 node" in " ".join(after.split())
    assert set(answers) == {200}
    assert host.interrupt() == 0
    host.start()  # everything is found with the new ones alone
    assert within(20, lambda: status(vip) == 200)
    assert "connected" in host.statera("node", "list").stdout


def test_every_service_serves_its_metrics_and_logs_name_the_request(host: Host) -> None:
    services = ("api", "worker", "health_manager", "housekeeping", "agent")
    ports = {service: int(free_bind().rpartition(":")[2]) for service in services}
    assert host.up("--detach").returncode == 0
    assert host.statera("down").returncode == 0
    lines = "".join(f"{service}_port = {port}\n" for service, port in ports.items())
    with (host.state / "octavia.conf").open("a") as file:
        file.write(f"\n[metrics]\n{lines}\n[DEFAULT]\nuse_json = true\n")
    for log in (host.state / "log").iterdir():
        log.unlink()
    host.start()
    host.balance("198.18.43.0/24", gateway="198.18.43.1")

    def page(service: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[service]}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    assert 'statera_api_request_seconds_count{method="POST",route="/loadbalancers",status="201"} 1.0' in page("api")
    assert 'statera_steps_total{kind="PlaceAmphora",outcome="done"} 1.0' in page("worker")
    assert within(20, lambda: "statera_due_load_balancers 0.0" in page("worker"))
    assert "statera_nodes_connected 1.0" in page("health_manager")
    assert within(20, lambda: 'statera_load_balancers{provisioning_status="ACTIVE"} 1.0' in page("housekeeping"))
    assert 'statera_agent_specs_applied_total{how="start"} 1.0' in page("agent")
    [lb] = host.call("v2/lbaas/loadbalancers")["loadbalancers"]
    *_, first = host.call(f"v2/lbaas/loadbalancers/{lb['id']}/events")["events"]
    assert first["request_id"].startswith("req-")
    for service in ("octavia-api", "octavia-worker", "statera-agent"):
        assert within(20, lambda service=service: first["request_id"] in requests_of(host, service)), service


def requests_of(host: Host, service: str) -> set[str]:
    """The requests that the service's log names; every line of it is JSON."""
    lines = [json.loads(line) for line in (host.state / "log" / f"{service}.log").read_text().splitlines()]
    return {line["context"]["request_id"] for line in lines if line["context"]}
