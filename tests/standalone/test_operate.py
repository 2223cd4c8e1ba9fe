# SPDX-License-Identifier: Apache-2.0
"""What operators type about load balancers: explain, events, repair, resize and rotate, on a folder of `statera up`."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select, update

from statera.commands import home
from statera.commands.home import Bind, Binds, Home
from statera.commands.lb import lb
from statera.commands.rotate import rotate
from statera.commands.status import status
from statera.errors import SetupError
from statera.store import nodes, tables
from statera.store.engine import Store
from statera.store.events import Event, record, utc_now
from statera.store.migrations.upgrade import upgrade

LB = "11111111-0000-4000-8000-000000000001"
FLAVOR = "22222222-0000-4000-8000-000000000002"


@pytest.fixture
def place(tmp_path):
    """A folder whose database has one load balancer on a node that nobody hears."""
    place = Home(tmp_path / "state")
    place.state.mkdir()
    settings = home.prepare(place, Binds(api=Bind("127.0.0.1", 1), nodes=Bind("127.0.0.1", 2)))
    store = Store(settings.database_url)
    upgrade(store)
    with store.write() as connection:
        node_id = nodes.ensure(connection, "red")
        connection.execute(insert(tables.load_balancers).values(
            id=LB, project_id="p", name="web", provider="amphora", topology="SINGLE", version=3, wanted_version=3,
            done_version=2, vip_address="10.0.0.5", vip_subnet_id="s", created_at=utc_now(), attempts=4))
        connection.execute(insert(tables.amphorae).values(
            id="a1", load_balancer_id=LB, role="STANDALONE", born_version=1, node_id=node_id, applied_version=2,
            created_at=utc_now() - timedelta(days=2), ports=[{
                "port_id": "p", "network_id": "n", "subnet_id": "s", "ip_address": "10.0.0.9", "cidr": "10.0.0.0/24"}]))
        connection.execute(insert(tables.flavor_profiles).values(
            id=FLAVOR, name="pair", provider_name="amphora", flavor_data='{"loadbalancer_topology": "ACTIVE_STANDBY"}'))
        connection.execute(insert(tables.flavors).values(
            id=FLAVOR, name="pair", enabled=True, flavor_profile_id=FLAVOR))
        record(connection, Event(load_balancer_id=LB, reason="no_node", message="no node can carry it", attempt=4))
    yield place, store
    store.close()


def typed(place, command, *words):
    done = CliRunner().invoke(command, [*words, "--state", str(place[0].state)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def row(place):
    with place[1].read() as connection:
        return connection.execute(select(tables.load_balancers).where(tables.load_balancers.c.id == LB)).one()


def test_explain_says_why_and_what_to_do(place):
    said = typed(place, lb, "explain", "web")
    for words in ("SINGLE with the VIP 10.0.0.5", "node red, which is silent", "runs version 2 of 3",
                  "no node can carry it", "start octavia-health-manager"):
        assert words in said


def test_explain_for_programs(place):
    said = json.loads(typed(place, lb, "explain", LB, "--json"))
    assert (said["id"], said["missing"]) == (LB, ["amphora a1 (STANDALONE) runs version 2 of 3"])


def test_events_are_lines(place):
    assert "no_node: no node can carry it" in typed(place, lb, "events", "web")
    assert json.loads(typed(place, lb, "events", "web", "--json"))["reason"] == "no_node"


def test_repair_makes_everybody_try_at_once(place):
    typed(place, lb, "repair", "web")
    assert (row(place).attempts, row(place).version, row(place).due_ms is None) == (0, 4, False)


def test_resize_by_name(place):
    typed(place, lb, "resize", "web", "pair")
    assert (row(place).flavor_id, row(place).topology, row(place).infra_version) == (FLAVOR, "ACTIVE_STANDBY", 4)


def test_status_of_services_that_somebody_else_starts(place):
    """As systemd does: no process of `statera up` holds the folder, and none ever did."""
    with place[1].write() as connection:
        connection.execute(insert(tables.managers).values(
            id="m", host="red", alive_until_ms=4_000_000_000_000, issuer="i"))
        connection.execute(update(tables.nodes).values(manager_id="m"))
    said = typed(place, status)
    assert "services health managers alive: 1" in said
    assert "node red connected, 1 amphorae" in said
    place[0].lock.touch()
    said = typed(place, status)
    assert "services stopped; `statera up` starts them" in said
    assert "node red not connected, 1 amphorae" in said


@pytest.mark.parametrize(("command", "words", "fault"), [
    pytest.param(lb, ["explain", "nobody"], "there is no load balancer nobody", id="unknown load balancer"),
    pytest.param(lb, ["resize", "web", "huge"], "Invalid flavor_id", id="unknown flavor"),
    pytest.param(rotate, [], "say which amphorae", id="rotate what?"),
    pytest.param(rotate, ["--pause"], "no rotation is under way", id="nothing to pause"),
    pytest.param(rotate, ["--all", "--node", "blue", "--dry-run"], "there is no node blue", id="unknown node"),
])
def test_what_cannot_be_is_said(place, command, words, fault):
    with pytest.raises(SetupError, match=fault):
        typed(place, command, *words)


def test_a_rotation_is_previewed_begun_paused_and_cancelled(place):
    assert "1 amphorae of 1 load balancers would be rotated" in typed(
        place, rotate, "--older-than", "1d", "--load-balancer", "web", "--dry-run")
    assert "0 amphorae" in typed(place, rotate, "--older-than", "3d", "--dry-run")
    assert "there has been no rotation" in typed(place, rotate, "status")
    assert "1 amphorae are to be rotated" in typed(
        place, rotate, "--all", "--node", "red", "--window", "22:00-04:00", "--no-wait")
    assert "running, 0 of 1 done: 1 amphorae, 1 load balancers at once, only 22:00-04:00" in typed(
        place, rotate, "status")
    assert typed(place, rotate, "--pause").startswith("paused")
    assert typed(place, rotate, "--resume").startswith("running")
    assert typed(place, rotate, "--cancel").startswith("cancelled")
    assert typed(place, rotate, "status").startswith("cancelled")


def test_bad_hours_are_refused(place):
    done = CliRunner().invoke(rotate, ["--all", "--window", "25:00-26:00"])
    assert "is not like 22:00-04:00" in done.output
