# SPDX-License-Identifier: Apache-2.0
"""A load balancer of another Octavia moves to an amphora of ours on the same VIP port of Neutron's, and back."""

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack_cloud import PROGRAMS, until
from openstack_stories import amphorae, both
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from benchmarks import servers

pytestmark = pytest.mark.usefixtures("traffic")

DUMP = Path(__file__).parent.parent / "adopt" / "octavia-19.0.0.sql.gz"
NAME = "lb-1"
PLAINER = (
    "DELETE l7rule FROM l7rule JOIN l7policy ON l7policy.id = l7rule.l7policy_id JOIN listener ON "
    "listener.id = l7policy.listener_id WHERE listener.load_balancer_id = :lb",
    "DELETE l7policy FROM l7policy JOIN listener ON listener.id = l7policy.listener_id "
    "WHERE listener.load_balancer_id = :lb",
    "DELETE health_monitor FROM health_monitor JOIN pool ON pool.id = pool_id WHERE pool.load_balancer_id = :lb",
    "DELETE session_persistence FROM session_persistence JOIN pool ON pool.id = pool_id "
    "WHERE pool.load_balancer_id = :lb",
    "DELETE member FROM member JOIN pool ON pool.id = pool_id WHERE pool.load_balancer_id = :lb AND member.name = 'm3'",
)


@pytest.fixture
def octavia(street: Any) -> Iterator[tuple[str, str, Any]]:
    """The other Octavia's database, in which one load balancer is the street's; its id and its VIP port."""
    with servers.mariadb() as server:
        url = servers.create_database(server)
        place = make_url(url)
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={place.query['unix_socket']}", "--user=root", str(place.database)],
            input=gzip.decompress(DUMP.read_bytes()), check=True)
        engine = create_engine(url)
        with engine.begin() as connection:
            named = text("SELECT id FROM load_balancer WHERE name = :name")
            lb = connection.execute(named, {"name": NAME}).scalar_one()
            port = street.admin.network.create_port(
                name=f"octavia-lb-{lb}", network_id=street.vip.network_id, project_id=street.tenant.project_id,
                device_owner="Octavia", device_id=f"lb-{lb}", is_admin_state_up=False,
                fixed_ips=[{"subnet_id": street.vip.id}])
            _settle_in(connection, lb, port, street)
        engine.dispose()
        yield url, lb, port


def _settle_in(connection: Connection, lb: str, port: Any, street: Any) -> None:
    def say(statement: str, **values: Any) -> None:
        connection.execute(text(statement), {"lb": lb, **values})

    say("UPDATE load_balancer SET project_id = :project WHERE id = :lb", project=street.tenant.project_id)
    say("UPDATE vip SET ip_address = :ip, port_id = :port, subnet_id = :subnet, network_id = :network "
        "WHERE load_balancer_id = :lb", ip=port.fixed_ips[0]["ip_address"], port=port.id, subnet=street.vip.id,
        network=street.vip.network_id)
    for statement in PLAINER:
        say(statement)
    for number, server in enumerate(street.servers, 1):
        say("UPDATE member JOIN pool ON pool.id = pool_id SET ip_address = :ip, protocol_port = 8080, backup = 0, "
            "weight = 1, subnet_id = :subnet WHERE pool.load_balancer_id = :lb AND member.name = :name",
            ip=server.address, subnet=street.members.id, name=f"m{number}")


def test_it_moves_with_its_port_and_back_and_ends_by_the_api(statera: Any, street: Any, octavia: Any) -> None:
    url, lb, port = octavia
    address = port.fixed_ips[0]["ip_address"]

    def adopt(*words: str) -> str:
        done = subprocess.run(
            [str(PROGRAMS / "statera"), "adopt", "--config-file", str(statera.state / "octavia.conf"),
             "--load-balancer", NAME, "--leave-machines", *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    balancer = street.admin.load_balancer
    assert "1 of 1 are served by this service alone" in adopt("--from", url)
    found = balancer.get_load_balancer(lb)
    assert (found.provisioning_status, found.vip_port_id, found.vip_address) == ("ACTIVE", port.id, address)
    both(street, address)

    adopt("--back")
    assert amphorae(street, found) == []
    assert street.get(address, seconds=1) == ""
    assert street.admin.network.get_port(port.id).name == f"octavia-lb-{lb}"

    adopt("--from", url)
    both(street, address)
    balancer.delete_load_balancer(lb, cascade=True)
    until(lambda: street.admin.network.find_port(port.id) is None)
