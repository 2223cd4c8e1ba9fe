# SPDX-License-Identifier: Apache-2.0
"""What a failed pass means: how long to wait, what to show, whose fault."""

import pytest

from statera.config import ControllerWorker
from statera.controller.reconcile import judge
from statera.errors import GiveUp, TryAgain

SETTINGS = ControllerWorker(retry_first_seconds=1.0, retry_max_seconds=60.0, error_after_attempts=3)
PASSING, LASTING, BUG = TryAgain("no_node", "no node"), GiveUp("quota", "no quota"), KeyError("x")


@pytest.mark.parametrize(("error", "attempt", "wait", "is_error"), [
    pytest.param(PASSING, 1, 1, False, id="the first time"),
    pytest.param(PASSING, 2, 2, False, id="the wait doubles"),
    pytest.param(PASSING, 3, 4, True, id="the user is told"),
    pytest.param(PASSING, 1000, 60, True, id="for ever, but no longer than a minute"),
    pytest.param(LASTING, 1, 60, True, id="what will not pass is told at once and retried slowly"),
    pytest.param(BUG, 1, 1, False, id="a bug is treated as what may pass"),
])
def test_waits_and_errors(error, attempt, wait, is_error):
    failure = judge(error, attempt, settings=SETTINGS, jitter=0.0)
    assert (failure.retry_seconds, failure.is_error) == (wait, is_error)


def test_jitter_takes_up_to_half_off():
    assert judge(PASSING, 3, settings=SETTINGS, jitter=1.0).retry_seconds == 2


@pytest.mark.parametrize(("error", "reason", "message", "fault"), [
    pytest.param(PASSING, "no_node", "no node", "cloud", id="the cloud"),
    pytest.param(LASTING, "quota", "no quota", "operator", id="the operator"),
    pytest.param(BUG, "internal_error", "KeyError: 'x'", "operator", id="ours"),
])
def test_the_event_says_why(error, reason, message, fault):
    failure = judge(error, 1, settings=SETTINGS, jitter=0.0)
    assert (failure.reason, failure.message, failure.fault) == (reason, message, fault)
