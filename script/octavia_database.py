# SPDX-License-Identifier: Apache-2.0
"""Makes a database of the real Octavia: its own db-manage and API, from PyPI, in an environment of their own.

Nothing real is behind it: the API writes its rows, its messages go nowhere, and what Octavia's worker would have
written (statuses, amphorae) is written by SQL. The result is a dump for `tests/adopt`.

    python script/octavia_database.py 19.0.0 tests/adopt/octavia-19.0.0.sql.gz
"""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import servers  # noqa: E402  a script has no package to be found from

LOAD_BALANCERS = 50
SECONDS = 120
PROJECTS = ("11111111111111111111111111111111", "22222222222222222222222222222222")
CONFIG = """\
[DEFAULT]
transport_url = fake://
[api_settings]
auth_strategy = noauth
bind_host = 127.0.0.1
bind_port = {port}
enabled_provider_drivers = amphora:Amphorae.,octavia:The same.,noop_driver:Nothing.
allow_tls_terminated_listeners = true
[database]
connection = {url}
[controller_worker]
network_driver = network_noop_driver
compute_driver = compute_noop_driver
amphora_driver = amphora_noop_driver
loadbalancer_topology = SINGLE
[certificates]
cert_manager = local_cert_manager
[audit]
enabled = false
"""
DONE = ("load_balancer", "listener", "pool", "member", "health_monitor", "l7policy", "l7rule")


def main() -> None:
    version, target = sys.argv[1], Path(sys.argv[2])
    python = environment(version)
    with servers.mariadb() as server:
        url = servers.create_database(server)
        port = free_port()
        config = Path(f"/tmp/octavia-{version}-{port}.conf")
        config.write_text(CONFIG.format(port=port, url=url))
        run = octavia(python, "octavia.db.migration.cli", config)
        subprocess.run([*run, "upgrade", "head"], check=True)
        with api(octavia(python, "octavia.cmd.api", config), config.with_suffix(".log"), port):
            furnish(port)
        finish(url)
        target.write_bytes(gzip.compress(dump(url), mtime=0))
        config.unlink()
    print(f"{target}: {target.stat().st_size} bytes")


def environment(version: str) -> Path:
    """The Python that has that release, installed on first use."""
    home = Path(os.environ.get("OCTAVIA_HOME", Path.home() / ".cache" / "statera" / f"octavia-{version}"))
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", f"octavia=={version}", "PyMySQL"], check=True)
    return home / "bin" / "python"


def octavia(python: Path, module: str, config: Path) -> list[str]:
    """One of Octavia's commands; its script may be shadowed by our own of the same name."""
    return [str(python), "-c", f"from {module} import main; main()", "--config-file", str(config)]


@contextmanager
def api(command: list[str], log: Path, port: int) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            end = time.monotonic() + SECONDS
            while not answers(port):
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < end, "octavia-api does not answer"
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(SECONDS)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(port: int) -> bool:
    try:
        ask(port, "GET", "/providers")
    except (OSError, urllib.error.HTTPError):
        return False
    return True


def ask(port: int, verb: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2.0/lbaas{path}", method=verb, headers={"Content-Type": "application/json"},
        data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{verb} {path}: {error.code} {error.read().decode()[:500]}") from error


def furnish(port: int) -> None:
    """Offers, a quota, and load balancers of every kind, with the same content each time."""
    offers = offered(port)
    ask(port, "PUT", f"/quotas/{PROJECTS[0]}", {"quota": {"load_balancer": 77, "member": 1000}})
    for number in range(LOAD_BALANCERS):
        ask(port, "POST", "/loadbalancers", {"loadbalancer": tree(number, offers)})


def offered(port: int) -> dict[str, str]:
    profile = ask(port, "POST", "/flavorprofiles", {"flavorprofile": {
        "name": "pair", "provider_name": "amphora",
        "flavor_data": json.dumps({"loadbalancer_topology": "ACTIVE_STANDBY"})}})["flavorprofile"]
    flavor = ask(port, "POST", "/flavors", {"flavor": {
        "name": "pair", "description": "Two amphorae", "flavor_profile_id": profile["id"]}})["flavor"]
    zones = ask(port, "POST", "/availabilityzoneprofiles", {"availability_zone_profile": {
        "name": "east", "provider_name": "amphora", "availability_zone_data": json.dumps({"compute_zone": "nova"})},
    })["availability_zone_profile"]
    ask(port, "POST", "/availabilityzones", {"availability_zone": {
        "name": "east", "availability_zone_profile_id": zones["id"]}})
    return {"flavor": flavor["id"], "zone": "east"}


def tree(number: int, offers: dict[str, str]) -> dict[str, Any]:
    """One load balancer with all that hangs on it; every fifth says everything that can be said."""
    wanted: dict[str, Any] = {
        "name": f"lb-{number}", "project_id": PROJECTS[number % 2], "provider": "amphora",
        "vip_subnet_id": uuid(f"subnet {number % 3}"), "vip_address": f"192.0.2.{number + 10}",
        "tags": [f"number-{number}", "adopted"], "admin_state_up": number % 7 != 6,
        "listeners": [{
            "name": "web", "protocol": "HTTP", "protocol_port": 80, "insert_headers": {"X-Forwarded-For": "true"},
            "default_pool": pool("web", number), "allowed_cidrs": ["192.0.2.0/24"] if number % 4 == 0 else None,
            "l7policies": [{
                "name": "api", "action": "REDIRECT_TO_URL", "redirect_url": "https://example.org/",
                "redirect_http_code": 301, "position": 1, "tags": ["policy"],
                "rules": [{"type": "PATH", "compare_type": "STARTS_WITH", "value": "/api", "invert": True}]}],
        }],
    }
    if number % 5 == 0:
        wanted |= {"flavor_id": offers["flavor"], "availability_zone": offers["zone"], "description": "everything",
                   "vip_qos_policy_id": uuid("qos")}
        wanted["listeners"] += [
            {"name": "secure", "protocol": "HTTP", "protocol_port": 443, "default_pool": pool("inner", number)},
            {"protocol": "UDP", "protocol_port": 53, "default_pool": dns(number)}]
        wanted["additional_vips"] = [{"subnet_id": uuid("subnet of six"), "ip_address": f"2001:db8::{number + 10:x}"}]
    return wanted


def pool(name: str, number: int) -> dict[str, Any]:
    return {
        "name": f"{name}-{number}", "protocol": "HTTP", "lb_algorithm": "LEAST_CONNECTIONS", "tags": ["pool"],
        "session_persistence": {"type": "APP_COOKIE", "cookie_name": "JSESSIONID"},
        "healthmonitor": {"name": "ping", "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2,
                          "max_retries_down": 4, "url_path": "/health", "expected_codes": "200-204", "tags": ["hm"]},
        "members": [{"name": f"m{each}", "address": f"198.51.100.{each}", "protocol_port": 8080, "weight": each,
                     "subnet_id": uuid("members"), "backup": each == 3, "tags": ["member"]} for each in (1, 2, 3)],
    }


def dns(number: int) -> dict[str, Any]:
    return {"name": f"dns-{number}", "protocol": "UDP", "lb_algorithm": "SOURCE_IP",
            "session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 60,
                                    "persistence_granularity": "255.255.255.0"},
            "members": [{"address": "198.51.100.9", "protocol_port": 53}]}


def uuid(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


TLS = (
    "UPDATE listener SET protocol = 'TERMINATED_HTTPS', tls_certificate_id = 'KEYS/default', insert_headers = NULL, "
    "client_ca_tls_certificate_id = 'KEYS/ca', client_authentication = 'OPTIONAL', tls_versions = 'TLSv1.2,TLSv1.3', "
    "tls_ciphers = 'ECDHE-RSA-AES256-GCM-SHA384', alpn_protocols = 'h2,http/1.1' WHERE name = 'secure'",
    "INSERT INTO sni (listener_id, tls_container_id, position) SELECT id, 'KEYS/b', 2 FROM listener "
    "WHERE name = 'secure'",
    "INSERT INTO sni (listener_id, tls_container_id, position) SELECT id, 'KEYS/a', 1 FROM listener "
    "WHERE name = 'secure'",
    "UPDATE pool SET tls_enabled = 1, tls_certificate_id = 'KEYS/inner', tls_versions = 'TLSv1.2' "
    "WHERE name LIKE 'inner-%'",
)
"""What would need a secret store that has these."""


def finish(url: str) -> None:
    """What Octavia's worker and health manager would have written."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in DONE:
            connection.execute(text(
                f"UPDATE {table} SET provisioning_status = 'ACTIVE', operating_status = 'ONLINE'"))
        connection.execute(text("UPDATE load_balancer SET provisioning_status = 'PENDING_UPDATE' WHERE name = 'lb-48'"))
        connection.execute(text("UPDATE load_balancer SET provisioning_status = 'DELETED' WHERE name = 'lb-49'"))
        for statement in TLS:
            connection.execute(text(statement.replace("KEYS", "http://barbican.example.org/v1/secrets")))
        for lb in connection.execute(text("SELECT id, topology FROM load_balancer")).all():
            for role in ("MASTER", "BACKUP") if lb.topology == "ACTIVE_STANDBY" else ("STANDALONE",):
                connection.execute(text(
                    "INSERT INTO amphora (id, load_balancer_id, compute_id, lb_network_ip, role, status, vrrp_port_id, "
                    "created_at, cert_busy) VALUES (:id, :lb, :compute, '203.0.113.5', :role, 'ALLOCATED', :port, "
                    "'2025-11-01 10:00:00', 0)"), {
                        "id": uuid(f"{lb.id} {role}"), "lb": lb.id, "compute": uuid(f"server {lb.id} {role}"),
                        "role": role, "port": uuid(f"port {lb.id} {role}")})
        first = connection.execute(text("SELECT id FROM listener ORDER BY id LIMIT 1")).scalar_one()
        connection.execute(text(
            "INSERT INTO listener_statistics (listener_id, amphora_id, bytes_in, bytes_out, active_connections, "
            "total_connections, request_errors) VALUES (:id, :id, 1000, 2000, 3, 400, 5)"), {"id": first})
    engine.dispose()


def dump(url: str) -> bytes:
    place = make_url(url)
    door = place.query["unix_socket"]
    return subprocess.run(
        ["mariadb-dump", "--no-defaults", f"--socket={door}", f"--user={place.username}", "--skip-dump-date",
         "--skip-comments", "--hex-blob", str(place.database)], check=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
