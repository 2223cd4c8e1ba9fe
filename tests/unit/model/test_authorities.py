# SPDX-License-Identifier: Apache-2.0
"""An exchange of authorities locks nobody out: not one that is away, and not one that is slow."""

from datetime import datetime, timedelta

import pytest

from statera.model.authorities import HEED, LEARN, RENEW, Authority, Holder, Sign, Wait, Withdraw, next_step, signer

NOW = datetime(2026, 11, 1)
LATER = NOW + timedelta(minutes=1)
OLD = Authority(id="old", generation=1, certificate="", created_at=NOW, signs_since=NOW)
FRESH = Authority(id="new", generation=2, certificate="", created_at=NOW)
SIGNING = Authority(id="new", generation=2, certificate="", created_at=NOW, signs_since=NOW)


def node(issuer, *trusts):
    return Holder(name="node a", kind="node", issuer=issuer, trusts=frozenset(trusts))


def manager(issuer):
    return Holder(name="health manager on b", kind="health manager", issuer=issuer)


@pytest.mark.parametrize(("authorities", "holders", "step"), [
    pytest.param([], [], None, id="none yet"),
    pytest.param([OLD], [node(None), manager(None)], None, id="one alone is left alone"),
    pytest.param([OLD, FRESH], [node("old", "old"), manager("old")],
                 Wait(what=LEARN, holders=("node a",), count=2), id="a node does not trust the new one yet"),
    pytest.param([OLD, FRESH], [node("old", "old", "new"), manager("old")], Sign("new"), id="everybody trusts it"),
    pytest.param([OLD, FRESH], [], Sign("new"), id="there is nobody"),
    pytest.param([OLD, SIGNING], [node("old", "old", "new"), manager("old")],
                 Wait(what=RENEW, holders=("node a", "health manager on b"), count=2), id="old certificates are shown"),
    pytest.param([OLD, SIGNING], [node("new", "new"), manager("old")],
                 Wait(what=RENEW, holders=("health manager on b",), count=2), id="a health manager lags behind"),
    pytest.param([OLD, SIGNING], [node("new", "new"), manager("new")], Withdraw("old"),
                 id="nothing of the old is left"),
])
def test_steps(authorities, holders, step):
    assert next_step(authorities, holders, LATER) == step


def test_an_authority_is_not_withdrawn_while_somebody_may_not_know_that_another_signs():
    step = next_step([OLD, SIGNING], [manager("new")], NOW + timedelta(seconds=1))
    assert step == Wait(what=HEED, holders=(), count=1)


def test_a_second_exchange_before_the_first_is_over_ends_with_one():
    third = Authority(id="third", generation=3, certificate="", created_at=NOW, signs_since=NOW)
    assert next_step([OLD, SIGNING, third], [manager("third")], LATER) == Withdraw("old")
    assert signer([OLD, SIGNING, third]) == third
