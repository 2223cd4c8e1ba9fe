# SPDX-License-Identifier: Apache-2.0
"""`statera adopt`: everything of another Octavia comes as it was, is held, moves one by one, and can go back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from compat.conftest import World
from sqlalchemy import create_engine, text

from statera.commands.adopt import Choice, Desk, read
from statera.config import Certificates, ControllerWorker, Settings
from statera.controller.queue import Queue
from statera.controller.world import World as Outside
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.network.noop import NoopNetwork
from statera.errors import GiveUp, SetupError

ALL = Choice()
THEIRS, LEFT_OUT = 49, 1
"""Fifty were made, one of which was deleted; one is in the middle of a change."""


class Machines:
    """The other Octavia's servers: which of them do not run."""

    def __init__(self) -> None:
        self.stopped: list[str] = []
        self.gone: set[str] = set()

    def stop(self, compute_id: str) -> None:
        if compute_id not in self.stopped:
            self.stopped.append(compute_id)

    def start(self, compute_id: str) -> None:
        if compute_id in self.gone:
            raise GiveUp("machine_gone", f"server {compute_id} is no more, so nothing can go back to it")
        if compute_id in self.stopped:
            self.stopped.remove(compute_id)


class Here:
    """Our side: an API, a desk for adoptions, and workers when they are asked for."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.machines = world, Machines()
        self.outside = Outside(store=world.store, compute=NoopCompute(), network=NoopNetwork())
        settings = Settings(certificates=Certificates(cert_manager="none"))
        self.desk = Desk(settings, self.outside, self.machines, 20.0)

    def take(self, source: str, choice: Choice = ALL) -> None:
        self.desk.adopt(read(source), choice, dry_run=False, import_only=True)

    def move(self, source: str, choice: Choice = ALL) -> None:
        with self.workers():
            self.desk.adopt(read(source), choice, dry_run=False, import_only=False)

    @contextmanager
    def workers(self) -> Iterator[None]:
        queue = Queue(self.outside, ControllerWorker(), owner="here")
        queue.start()
        try:
            yield
        finally:
            queue.stop()

    def amphorae(self) -> list[Any]:
        return [each for each in self.world.call("GET", "/amphorae", root="/v2.0/octavia").json["amphorae"]
                if each["status"] != "DELETED"]

    def named(self, name: str) -> Any:
        (found,) = self.world.get("/loadbalancers", name=name)["loadbalancers"]
        return found


@pytest.fixture
def here(worlds: Callable[..., World], tmp_path: Path) -> Here:
    return Here(worlds(), tmp_path)


def asked(source: str, statement: str, **values: Any) -> list[Any]:
    engine = create_engine(source)
    with engine.begin() as connection:
        result = connection.execute(text(statement), values)
        rows = list(result.all()) if result.returns_rows else []
    engine.dispose()
    return rows


def test_every_object_comes_as_it_was(here: Here, either: str) -> None:
    here.take(either)
    shown = here.world.get("/loadbalancers")["loadbalancers"]
    assert len(shown) == THEIRS - LEFT_OUT
    assert {lb["provisioning_status"] for lb in shown} == {"ACTIVE"}
    theirs = {row.id: row for row in asked(
        either, "SELECT lb.id, lb.name, lb.project_id, lb.created_at, vip.ip_address, vip.port_id, vip.subnet_id "
        "FROM load_balancer lb JOIN vip ON vip.load_balancer_id = lb.id")}
    for lb in shown:
        row = theirs[lb["id"]]
        assert (lb["name"], lb["project_id"], lb["vip_address"], lb["vip_port_id"], lb["vip_subnet_id"]) == (
            row.name, row.project_id, row.ip_address, row.port_id, row.subnet_id)
        assert lb["created_at"] == row.created_at.isoformat()
    for kind, table in (("listeners", "listener"), ("pools", "pool"), ("healthmonitors", "health_monitor"),
                        ("l7policies", "l7policy")):
        ids = {row.id for row in asked(either, f"SELECT id FROM {table}")}
        found = {each["id"] for each in here.world.get(f"/{kind}")[kind]}
        assert found < ids
        assert len(found) > THEIRS - LEFT_OUT - 1


def test_a_load_balancer_with_everything_says_the_same_here(here: Here, either: str) -> None:
    here.take(either)
    lb = here.named("lb-5")
    assert (lb["description"], sorted(lb["tags"])) == ("everything", ["adopted", "number-5"])
    assert lb["availability_zone"] == "east"
    assert [vip["ip_address"] for vip in lb["additional_vips"]] == ["2001:db8::f"]
    listeners = {each["name"]: each for each in here.world.get("/listeners", loadbalancer_id=lb["id"])["listeners"]}
    web, secure = listeners["web"], listeners["secure"]
    assert web["insert_headers"] == {"X-Forwarded-For": "true"}
    keys = "http://barbican.example.org/v1/secrets/"
    assert (secure["protocol"], secure["default_tls_container_ref"]) == ("TERMINATED_HTTPS", f"{keys}default")
    assert secure["sni_container_refs"] == [f"{keys}a", f"{keys}b"]
    assert (secure["client_authentication"], secure["client_ca_tls_container_ref"]) == ("OPTIONAL", f"{keys}ca")
    assert (secure["tls_versions"], secure["alpn_protocols"]) == (["TLSv1.2", "TLSv1.3"], ["h2", "http/1.1"])
    pools = {each["name"]: each for each in here.world.get("/pools", loadbalancer_id=lb["id"])["pools"]}
    assert pools["web-5"]["session_persistence"] == {
        "type": "APP_COOKIE", "cookie_name": "JSESSIONID", "persistence_timeout": None, "persistence_granularity": None}
    assert pools["dns-5"]["session_persistence"]["persistence_granularity"] == "255.255.255.0"
    assert (pools["inner-5"]["tls_enabled"], pools["inner-5"]["tls_container_ref"]) == (True, f"{keys}inner")
    members = here.world.get(f"/pools/{pools['web-5']['id']}/members")["members"]
    assert [(each["address"], each["weight"], each["backup"]) for each in sorted(members, key=lambda m: m["name"])] == [
        ("198.51.100.1", 1, False), ("198.51.100.2", 2, False), ("198.51.100.3", 3, True)]
    monitor = here.world.get(f"/healthmonitors/{pools['web-5']['healthmonitor_id']}")["healthmonitor"]
    assert (monitor["max_retries"], monitor["max_retries_down"], monitor["expected_codes"]) == (2, 4, "200-204")
    policy = here.world.get(f"/l7policies/{web['l7policies'][0]['id']}")["l7policy"]
    assert (policy["redirect_http_code"], policy["tags"]) == (301, ["policy"])
    rule = here.world.get(f"/l7policies/{policy['id']}/rules")["rules"][0]
    assert (rule["value"], rule["invert"]) == ("/api", True)
    flavor = here.world.get(f"/flavors/{lb['flavor_id']}")["flavor"]
    assert flavor["name"] == "pair"
    assert here.named("lb-6")["admin_state_up"] is False
    assert sorted(here.world.get("/listeners", loadbalancer_id=here.named("lb-8")["id"])["listeners"][0][
        "allowed_cidrs"]) == ["192.0.2.0/24"]


def test_quotas_and_totals_come_too(here: Here, either: str) -> None:
    here.take(either)
    quota = here.world.get(f"/quotas/{'1' * 32}")["quota"]
    assert (quota["load_balancer"], quota["member"]) == (77, 1000)
    (row,) = asked(either, "SELECT listener_id FROM listener_statistics")
    stats = here.world.get(f"/listeners/{row.listener_id}/stats")["stats"]
    assert (stats["bytes_in"], stats["total_connections"]) == (1000, 400)


def test_nothing_is_touched_before_it_is_moved(here: Here, newest: str) -> None:
    here.take(newest)
    queue = Queue(here.outside, ControllerWorker(), owner="here")
    assert queue.run_once() is None
    lb = here.named("lb-1")
    here.world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": "changed"})
    assert queue.run_once() is None
    assert here.amphorae() == []


def test_a_dry_run_changes_nothing_and_says_what_would_be(
    here: Here, newest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here.desk.adopt(read(newest), ALL, dry_run=True, import_only=False)
    said = capsys.readouterr().out
    assert "it is PENDING_UPDATE there: wait until that is over" in said
    assert "its secret http://barbican.example.org/v1/secrets/default cannot be read" in said
    assert f"{THEIRS} load balancers; nothing was changed" in said
    assert here.world.get("/loadbalancers")["loadbalancers"] == []


def test_a_second_time_takes_only_what_is_new_over_there(
    here: Here, alive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here.take(alive)
    asked(alive, "UPDATE load_balancer SET provisioning_status = 'ACTIVE' WHERE name = 'lb-48'")
    asked(alive, "UPDATE load_balancer SET description = 'changed there' WHERE name = 'lb-1'")
    capsys.readouterr()
    here.take(alive)
    assert "1 added, 1 renewed, 47 unchanged" in capsys.readouterr().out
    assert here.named("lb-1")["description"] == "changed there"


def test_those_chosen_are_moved_with_their_ports_and_theirs_stop(here: Here, newest: str) -> None:
    before = {lb["id"]: lb for lb in _taken(here, newest)}
    choice = Choice(ids=("lb-1", "lb-2"))
    here.move(newest, choice)
    amphorae = here.amphorae()
    assert {each["loadbalancer_id"] for each in amphorae} == {here.named(name)["id"] for name in choice.ids}
    for name in choice.ids:
        lb = here.named(name)
        assert lb["provisioning_status"] == "ACTIVE"
        assert (lb["vip_port_id"], lb["vip_address"]) == (
            before[lb["id"]]["vip_port_id"], before[lb["id"]]["vip_address"])
    theirs = asked(newest, "SELECT amphora.compute_id FROM amphora JOIN load_balancer ON "
                   "load_balancer.id = amphora.load_balancer_id WHERE load_balancer.name IN ('lb-1', 'lb-2')")
    assert sorted(here.machines.stopped) == sorted(row.compute_id for row in theirs)


def test_without_its_secrets_none_is_moved(
    here: Here, newest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here.move(newest, Choice(ids=("lb-5",)))
    assert "is not moved: its secret http://barbican.example.org/v1/secrets/default cannot be read" in (
        capsys.readouterr().err)
    assert here.amphorae() == []


def test_the_way_back_starts_theirs_and_removes_ours(here: Here, newest: str) -> None:
    choice = Choice(ids=("lb-1", "lb-2"))
    here.move(newest, choice)
    assert len(here.machines.stopped) == 2
    with here.workers():
        here.desk.bring_back(choice, force=False)
    assert here.machines.stopped == []
    assert here.amphorae() == []
    assert here.named("lb-1")["provisioning_status"] == "ACTIVE"
    assert Queue(here.outside, ControllerWorker(), owner="here").run_once() is None
    here.move(newest, choice)
    assert len(here.amphorae()) == 2


def test_what_was_changed_here_goes_back_only_by_force(here: Here, newest: str) -> None:
    choice = Choice(ids=("lb-1",))
    here.move(newest, choice)
    here.world.put(f"/loadbalancers/{here.named('lb-1')['id']}", loadbalancer={"description": "changed here"})
    with pytest.raises(SetupError, match="1 of them were changed here since"):
        here.desk.bring_back(choice, force=False)
    with here.workers():
        here.desk.bring_back(choice, force=True)
    assert here.amphorae() == []


def test_a_server_that_is_gone_ends_the_way_back_before_ours_go(here: Here, newest: str) -> None:
    choice = Choice(ids=("lb-1",))
    here.move(newest, choice)
    here.machines.gone = set(here.machines.stopped)
    with here.workers(), pytest.raises(SetupError, match="is no more, so nothing can go back to it"):
        here.desk.bring_back(choice, force=False)
    assert len(here.amphorae()) == 1


def test_a_pause_lasts_until_the_command_is_given_again(here: Here, newest: str) -> None:
    here.take(newest)
    choice = Choice(ids=("lb-1", "lb-2"))
    assert here.desk.pause(choice) == 2
    assert here.amphorae() == []
    here.move(newest, choice)
    assert len(here.amphorae()) == 2


def test_one_that_ours_cannot_serve_ends_the_run_and_is_resumed(here: Here, newest: str) -> None:
    impatient = Desk(here.desk.settings, here.outside, here.machines, 0.5)
    with pytest.raises(SetupError, match="is not served by our amphorae after 0 s"):  # there is no worker
        impatient.adopt(read(newest), Choice(ids=("lb-1",)), dry_run=False, import_only=False)
    assert here.machines.stopped == []
    assert here.named("lb-1")["provisioning_status"] == "PENDING_UPDATE"
    here.move(newest, Choice(ids=("lb-1",)))
    assert here.named("lb-1")["provisioning_status"] == "ACTIVE"
    assert len(here.machines.stopped) == 1


def test_fifty_load_balancers_come_and_all_that_can_be_move(
    here: Here, newest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here.move(newest)
    said = capsys.readouterr()
    secretive = sum(1 for number in range(0, 50, 5) if number not in (48, 49))
    assert "48 added" in said.out
    assert f"{48 - secretive} of 48 are served by this service alone" in said.out
    assert len(here.amphorae()) == 48 - secretive


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="has no table load_balancer: it is not a database of Octavia's"):
        read(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(SetupError, match="cannot read --from"):
        read("mysql+pymysql://nobody@127.0.0.1:1/octavia")


def test_a_pickle_that_would_act_is_not_opened(here: Here, alive: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked(alive, "UPDATE listener SET insert_headers = :bad WHERE load_balancer_id = "
          "(SELECT id FROM load_balancer WHERE name = 'lb-1')", bad=b"cposix\nsystem\n(S'false'\ntR.")
    here.take(alive, Choice(ids=("lb-1",)))
    assert "a pickled value names posix.system" in capsys.readouterr().err
    assert here.world.get("/loadbalancers")["loadbalancers"] == []


def _taken(here: Here, source: str) -> list[Any]:
    here.take(source)
    shown: list[Any] = here.world.get("/loadbalancers")["loadbalancers"]
    return shown
