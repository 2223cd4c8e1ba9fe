# SPDX-License-Identifier: Apache-2.0
"""What is the matter is said once for each episode, with the limit and its value."""

import pytest

from statera.agent.cgroup import Hits
from statera.agent.limits import CALM_SECONDS, Episodes, crowded, effective, felt, full, missing
from statera.model.fleet import Role
from statera.model.limits import Alarm, Effective, Limits
from statera.render.haproxy import Machine, most_connections
from statera.wire import ListenerSpec, Report, Spec, TlsSpec

MACHINE = Machine(run="", chroot="", memory_mb=1024, most_connections=7800)
INFO = {"Maxconn": "100", "CurrConns": "100", "Ulimit-n": "250"}


def spec(*, tls=None, **limits):
    listener = ListenerSpec(id="l", protocol="HTTP", protocol_port=80, connection_limit=10, tls=tls)
    return Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(), vips=(),
                listeners=(listener,), limits=Limits(**limits))


def test_an_episode_is_one_alarm_until_it_was_calm_for_a_while():
    episodes, first, later = Episodes(), Alarm(reason="r", message="1 so far"), Alarm(reason="r", message="9 so far")
    for alarm, now in ((first, 0.0), (later, 50.0)):
        episodes.note(alarm, now)
        assert episodes.current(now) == (first,)
    assert episodes.current(50.0 + CALM_SECONDS - 1) == (first,)
    assert episodes.current(50.0 + CALM_SECONDS) == ()
    episodes.note(later, 200.0)
    assert episodes.current(200.0) == (later,)


@pytest.mark.parametrize(("alarms", "reason", "value"), [
    pytest.param(full(spec(), Report(amphora_id="a", listeners={"l": "FULL"}), {}), "connection_limit_reached", "10",
                 id="a listener is full"),
    pytest.param(full(spec(), Report(amphora_id="a"), INFO), "max_connections_reached", "100",
                 id="the amphora is full"),
    pytest.param(crowded(INFO, 250), "file_descriptors_reached", "250", id="no file can be opened"),
    pytest.param(felt(spec(memory_mb=64), MACHINE, Hits(), Hits(killed=1), 5), "memory_limit_reached", "64 MB",
                 id="killed for memory"),
    pytest.param(felt(spec(cpus=0.5), MACHINE, Hits(), Hits(throttled=20), 5), "cpu_limit_reached", "0.5 CPUs",
                 id="held back"),
    pytest.param([missing("file flow.log", 7)], "log_lines_lost", "file flow.log", id="log lines are lost"),
])
def test_an_alarm_names_the_limit_and_its_value(alarms, reason, value):
    (alarm,) = alarms
    assert (alarm.reason, value in alarm.message) == (reason, True)


@pytest.mark.parametrize("alarms", [
    pytest.param(full(spec(), Report(amphora_id="a", listeners={"l": "OPEN"}), {**INFO, "CurrConns": "99"}), id="room"),
    pytest.param(crowded(INFO, 249), id="files can be opened"),
    pytest.param(felt(spec(cpus=1), MACHINE, Hits(), Hits(throttled=5), 5), id="hardly held back"),
    pytest.param(felt(spec(), MACHINE, Hits(), Hits(throttled=50), 5), id="held back by somebody else"),
])
def test_where_no_limit_is_reached_nothing_is_the_matter(alarms):
    assert alarms == []


@pytest.mark.parametrize(("wanted", "most"), [
    pytest.param(spec(), (7800, "file descriptors"), id="descriptors"),
    pytest.param(spec(memory_mb=64), (496, "memory"), id="memory"),
    pytest.param(spec(memory_mb=64, tls=TlsSpec()), (202, "memory"), id="memory, with TLS"),
    pytest.param(spec(max_connections=300), (300, "flavor"), id="flavor"),
    pytest.param(spec(memory_mb=1), (1, "memory"), id="hardly any memory"),
])
def test_the_least_of_all_ceilings_counts(wanted, most):
    assert most_connections(wanted, MACHINE) == most


def test_what_holds_is_shown_and_what_does_not_is_not():
    shown = effective(spec(cpus=0.5), MACHINE, INFO, {"memory": "no control groups"})
    assert shown == Effective(
        max_connections=100, limited_by="file descriptors", file_descriptors=250, memory_mb=None, cpus=0.5)
