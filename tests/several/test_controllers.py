# SPDX-License-Identifier: Apache-2.0
"""Three controllers on one database server: what breaks among them, and nothing that anybody was promised is lost."""

from collections.abc import Iterator

import pytest
from hosts import data_centre
from outages import OPTIONS, Case, Town, rest, run

from benchmarks.client import until

OUTAGE_SECONDS = 30.0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with data_centre(
            tmp_path_factory.mktemp("town"), kind="postgresql", controllers=3, hosts=3, options=OPTIONS) as centre:
        yield Town(centre)


@pytest.mark.parametrize(("fault", "operation"), [
    ("a worker is paused", "fail over"),
    ("a controller loses the database", "create"),
])
def test_users_notice_nothing(town: Town, fault: str, operation: str) -> None:
    """The short form of `script/chaos --real`."""
    assert run(town, Case(fault, operation, 1)) is None


def test_an_outage_of_the_database_stops_no_traffic_and_ends_by_itself(town: Town) -> None:
    """Also services that are started meanwhile wait for it instead of dying."""
    made = town.create("outage", "ACTIVE_STANDBY", town.members[:2])
    town.wait(made, town.members[:2])
    vip = town.row(made)["vip_address"]
    town.set_members(made, town.members)  # the last wish before the lights go out
    server = town.centre.server
    assert server is not None
    server.stop()
    with town.client.load(vip) as finish:
        late = town.centre.controllers[0]
        for process in late.services.values():
            process.kill()
        late.start()
        rest(OUTAGE_SECONDS)
        assert all(process.is_running for process in late.services.values()), late.said()
        outcome = finish()
    server.start()
    until(late.is_ready, seconds=60, step_seconds=0.1, otherwise=late.said)
    assert (outcome.per_request.failed, outcome.kept.failed) == (0, 0)
    assert outcome.per_request.requests > 100
    town.wait(made, town.members)
    town.delete(made)
    town.wait_for(made, "DELETED")
