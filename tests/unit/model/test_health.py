# SPDX-License-Identifier: Apache-2.0
"""Operating statuses from HAProxy's words."""

import pytest

from statera.model.health import Health, Subject, Words, derive

LISTENER = Subject(id="l", enabled=True, wanted_version=3, status="ONLINE")
POOL = Subject(id="p", enabled=True, wanted_version=3, status="ONLINE")
MEMBER = Subject(id="m", enabled=True, wanted_version=3, status="ONLINE", pool_id="p")
WELL = {"listeners": {"l": "OPEN"}, "pools": {"p": "UP"}, "members": {"m": "UP"}}


def subject(of, **changes):
    return Subject(**{field: getattr(of, field) for field in of.__struct_fields__} | changes)


@pytest.mark.parametrize(("words", "changed", "lb", "listener", "pool", "member"), [
    pytest.param({}, [], "ONLINE", "ONLINE", "ONLINE", "ONLINE", id="all well"),
    pytest.param({"listeners": {"l": "FULL"}}, [], "DEGRADED", "DEGRADED", "ONLINE", "ONLINE", id="listener full"),
    pytest.param({"listeners": {}}, [], "ERROR", "ERROR", "ONLINE", "ONLINE", id="listener not served"),
    pytest.param({"listeners": {}}, [subject(LISTENER, wanted_version=4, status="OFFLINE")],
                 "ONLINE", "OFFLINE", "ONLINE", "ONLINE", id="listener wished after this was said"),
    pytest.param({}, [subject(LISTENER, enabled=False)], "ONLINE", "OFFLINE", "ONLINE", "ONLINE", id="listener off"),
    pytest.param({"members": {"m": "DOWN 2/3"}}, [], "DEGRADED", "ONLINE", "DEGRADED", "ERROR", id="member down"),
    pytest.param({"members": {"m": "DOWN"}, "pools": {"p": "DOWN"}}, [], "ERROR", "ONLINE", "ERROR", "ERROR",
                 id="pool down"),
    pytest.param({"members": {"m": "DOWN"}}, [subject(MEMBER, enabled=False)],
                 "ONLINE", "ONLINE", "ONLINE", "OFFLINE", id="a member that is off ails nobody"),
    pytest.param({"pools": {}, "members": {}}, [], "ONLINE", "ONLINE", "OFFLINE", "OFFLINE", id="pool not in use"),
    pytest.param({"members": {}}, [subject(MEMBER, status="NO_MONITOR")],
                 "ONLINE", "ONLINE", "ONLINE", "NO_MONITOR", id="no monitor and not reported"),
    pytest.param({"members": {}}, [subject(MEMBER, wanted_version=4, status="OFFLINE")],
                 "ONLINE", "ONLINE", "ONLINE", "OFFLINE", id="member wished after this was said"),
    pytest.param({"members": {"m": "no check"}}, [subject(MEMBER, weight=0)],
                 "ONLINE", "ONLINE", "ONLINE", "DRAINING", id="weight zero without a monitor"),
    pytest.param({"listeners": {"l": "WHAT"}}, [], "ONLINE", "ONLINE", "ONLINE", "ONLINE", id="an unknown word"),
])
def test_statuses(words, changed, lb, listener, pool, member):
    now = {subject.id: subject for subject in (LISTENER, POOL, MEMBER, *changed)}
    said = Words(as_of=3, **{**WELL, **words})
    assert derive(said, listeners=[now["l"]], pools=[now["p"]], members=[now["m"]]) == Health(
        load_balancer=lb, listeners={"l": listener}, pools={"p": pool}, members={"m": member})


def test_a_load_balancer_that_is_off_has_no_listener_in_error():
    silent = Words(as_of=3, vrrp=None)
    found = derive(silent, enabled=False, listeners=[LISTENER], pools=[POOL], members=[MEMBER])
    assert found == Health(
        load_balancer="ONLINE", listeners={"l": "OFFLINE"}, pools={"p": "OFFLINE"}, members={"m": "OFFLINE"})
