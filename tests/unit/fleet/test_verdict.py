# SPDX-License-Identifier: Apache-2.0
"""Who is condemned, and when the judge rather doubts itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statera.fleet.verdict import Patience, judge

NOW = 1000.0
PATIENCE = Patience(grace_seconds=6)


@pytest.mark.parametrize(("silent", "fleet", "well", "condemned", "doubted"), [
    pytest.param({}, 3, 999, [], False, id="all is well"),
    pytest.param({"a": 7}, 3, 999, ["a"], False, id="one of three is silent"),
    pytest.param({"a": 5}, 3, 999, [], False, id="silent for less than the grace time"),
    pytest.param({"a": 7}, 3, 5, [], False, id="the judge has just come up"),
    pytest.param({"a": 7}, 1, 999, ["a"], False, id="the only node"),
    pytest.param({"a": 7, "b": 7}, 2, 999, [], True, id="both of two"),
    pytest.param({"a": 7, "b": 7}, 4, 999, ["a", "b"], False, id="half of the fleet"),
    pytest.param({"a": 7, "b": 7, "c": 7}, 4, 999, [], True, id="most of the fleet"),
    pytest.param({"a": 6, "b": 4, "c": 4}, 4, 999, [], True, id="most of the fleet, last heard a beat apart"),
    pytest.param({"a": 7, "b": 1, "c": 1}, 4, 999, ["a"], False, id="others only paused"),
    pytest.param({"a": 3600, "b": 7}, 4, 999, ["a", "b"], False, id="one after the other"),
])
def test_verdicts(silent, fleet, well, condemned, doubted):
    heard = {node: NOW - seconds for node, seconds in silent.items()}
    verdict = judge(now=NOW, heard=heard, fleet=fleet, well_since=NOW - well, heard_since=NOW - 10, patience=PATIENCE)
    assert list(verdict.condemned) == condemned
    assert (verdict.doubt is not None) == doubted


@pytest.mark.parametrize(("silent", "well", "heard", "doubt_seconds", "condemned", "doubted"), [
    pytest.param({"a": 61, "b": 61}, 999, 61, 60, ["a", "b"], False, id="silent for a minute while the third is heard"),
    pytest.param({"a": 61, "b": 59}, 999, 61, 60, ["a"], True, id="one of them for less than a minute"),
    pytest.param({"a": 61, "b": 61}, 59, 61, 60, [], True, id="the judge had a lapse meanwhile"),
    pytest.param({"a": 61, "b": 61}, 999, 59, 60, [], True, id="the third came back after them"),
    pytest.param({"a": 61, "b": 61}, 999, None, 60, [], True, id="nobody is heard"),
    pytest.param({"a": 3600, "b": 3600}, 9999, 9999, 0, [], True, id="only an operator may end the doubt"),
])
def test_doubt_ends_when_the_judge_proves_itself_well(silent, well, heard, doubt_seconds, condemned, doubted):
    verdict = judge(
        now=NOW, heard={node: NOW - seconds for node, seconds in silent.items()}, fleet=3, well_since=NOW - well,
        heard_since=None if heard is None else NOW - heard,
        patience=Patience(grace_seconds=6, doubt_seconds=doubt_seconds))
    assert list(verdict.condemned) == condemned
    assert (verdict.doubt is not None) == doubted


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100)), st.integers(0, 20), st.floats(0, 100))
def test_nobody_is_condemned_without_proof(silent, others, well):
    heard = {node: NOW - seconds for node, seconds in silent.items()}
    fleet = len(silent) + others
    verdict = judge(now=NOW, heard=heard, fleet=fleet, well_since=NOW - well, heard_since=None, patience=PATIENCE)
    assert all(NOW - heard[node] >= 6 for node in verdict.condemned)
    assert not (verdict.condemned and NOW - (NOW - well) < 6)
    assert len(verdict.condemned) <= max(1, fleet / 2)
    assert not (verdict.condemned and verdict.doubt)
