# SPDX-License-Identifier: Apache-2.0
"""A report that says nothing new costs nothing."""

import pytest

from statera.fleet.words import Totals, fold
from statera.model.health import Words
from statera.model.limits import Alarm
from statera.wire import Counters, Report

KNOWN = Words(as_of=3, listeners={"l": "OPEN"}, pools={"p": "UP"}, members={"m": "UP", "n": "DOWN"})


def report(**words):
    return Report(amphora_id="a", **words)


@pytest.mark.parametrize("said", [
    pytest.param(report(), id="nothing"),
    pytest.param(report(members={"m": "UP"}), id="what is known"),
    pytest.param(report(full=True, listeners={"l": "OPEN"}, pools={"p": "UP"}, members={"n": "DOWN", "m": "UP"}),
                 id="all that is known"),
    pytest.param(report(counters={"l": Counters(bytes_in=5)}), id="counters alone"),
])
def test_nothing_new(said):
    assert fold(KNOWN, said, 3) is KNOWN


@pytest.mark.parametrize(("said", "as_of", "members"), [
    pytest.param(report(members={"m": "DOWN"}), 3, {"m": "DOWN", "n": "DOWN"}, id="a member changed"),
    pytest.param(report(full=True, members={"m": "UP"}), 3, {"m": "UP"}, id="a full report forgets the rest"),
    pytest.param(report(members={"m": "UP"}), 4, {"m": "UP", "n": "DOWN"}, id="the same words of a newer version"),
])
def test_news(said, as_of, members):
    words = fold(KNOWN, said, as_of)
    assert words is not KNOWN
    assert (words.as_of, words.members) == (as_of, members)


def test_who_holds_the_vip_is_remembered():
    words = fold(fold(KNOWN, report(vrrp="MASTER"), 3), report(full=True), 3)
    assert words.vrrp == "MASTER"


def test_totals_are_handed_out_at_intervals_and_only_when_they_moved():
    totals = Totals(every_seconds=5)
    totals.note("a", {"l": Counters(bytes_in=1)}, 100)
    assert totals.take(100) == {("a", "l"): Counters(bytes_in=1)}
    totals.note("a", {"l": Counters(bytes_in=1)}, 101)
    assert totals.take(110) == {}
    totals.note("a", {"l": Counters(bytes_in=2)}, 111)
    totals.note("a", {"l": Counters(bytes_in=3)}, 112)
    assert totals.take(112) == {("a", "l"): Counters(bytes_in=3)}
    totals.note("a", {"l": Counters(bytes_in=4)}, 113)
    assert totals.take(114) == {}
    assert totals.take(117) == {("a", "l"): Counters(bytes_in=4)}


def test_alarms_stay_until_others_are_said():
    full = Alarm(reason="connection_limit_reached", message="3")
    words = fold(KNOWN, report(alarms=(full,)), KNOWN.as_of)
    assert words.alarms == (full,)
    assert fold(words, report(alarms=(full,)), words.as_of) is words
    assert fold(words, report(), words.as_of) is words
    assert fold(words, report(alarms=()), words.as_of).alarms == ()
