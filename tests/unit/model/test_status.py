# SPDX-License-Identifier: Apache-2.0
"""What a status says for given facts."""

import pytest

from statera.model.status import Operating, Provisioning, member_status, provisioning_status, worst

SETTLED = {"created": 1, "wanted": 5, "done": 5, "deleting": False, "failed": None}


@pytest.mark.parametrize(("facts", "status"), [
    pytest.param({}, Provisioning.ACTIVE, id="all runs"),
    pytest.param({"wanted": 1, "done": 0}, Provisioning.PENDING_CREATE, id="nothing runs yet"),
    pytest.param({"created": 6, "wanted": 7}, Provisioning.PENDING_CREATE, id="changed before it ever ran"),
    pytest.param({"wanted": 6}, Provisioning.PENDING_UPDATE, id="a change is under way"),
    pytest.param({"wanted": 6, "deleting": True}, Provisioning.PENDING_DELETE, id="on its way out"),
    pytest.param({"wanted": 6, "failed": 6}, Provisioning.ERROR, id="the change could not be made"),
    pytest.param({"wanted": 6, "failed": 5}, Provisioning.PENDING_UPDATE, id="a new wish after a failure"),
    pytest.param({"wanted": 5, "failed": 9, "done": 4}, Provisioning.ERROR, id="a later version failed with it"),
    pytest.param({"wanted": 6, "failed": 6, "deleting": True}, Provisioning.ERROR, id="the deletion fails"),
    pytest.param({"deleting": True, "deleted": True}, Provisioning.DELETED, id="gone"),
])
def test_provisioning_status_follows_from_the_facts(facts: dict[str, int], status: Provisioning) -> None:
    assert provisioning_status(**{**SETTLED, **facts}) == status  # type: ignore[arg-type]


@pytest.mark.parametrize(("word", "weight", "status"), [
    ("UP", 1, Operating.ONLINE),
    ("UP 1/3", 1, Operating.ONLINE),
    ("UP", 0, Operating.DRAINING),
    ("DOWN", 1, Operating.ERROR),
    ("DOWN 1/2", 1, Operating.ERROR),
    ("DOWN (agent)", 1, Operating.ERROR),
    ("DRAIN", 1, Operating.DRAINING),
    ("DRAIN (agent)", 1, Operating.DRAINING),
    ("MAINT", 1, Operating.OFFLINE),
    ("MAINT (via a/b)", 1, Operating.OFFLINE),
    ("NOLB", 1, Operating.ERROR),
    ("no check", 1, Operating.NO_MONITOR),
    ("no check", 0, Operating.DRAINING),
    ("a word of a later HAProxy", 1, Operating.ERROR),
])
def test_every_word_of_haproxy_has_a_status(word: str, weight: int, status: Operating) -> None:
    assert member_status(word, weight) == status


@pytest.mark.parametrize(("statuses", "status"), [
    ([], Operating.ONLINE),
    (["ONLINE", "OFFLINE"], Operating.ONLINE),
    (["ONLINE", "DEGRADED"], Operating.DEGRADED),
    (["ERROR", "DEGRADED"], Operating.ERROR),
])
def test_a_load_balancer_is_as_well_as_its_worst_part(statuses: list[str], status: Operating) -> None:
    assert worst(statuses) == status
