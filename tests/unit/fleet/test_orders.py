# SPDX-License-Identifier: Apache-2.0
"""What a node is told about the amphorae placed on it."""

import pytest

from statera.fleet.orders import Orders, orders
from statera.store.placements import Placement


def placement(amphora_id, **facts):
    return Placement(**{
        "amphora_id": amphora_id, "load_balancer_id": f"lb-{amphora_id}", "node_id": "n", "version": 3,
        "applied_version": 0, "runnable": True, "leaving": False, "gone": False, **facts,
    })


@pytest.mark.parametrize(("placements", "known", "told"), [
    pytest.param([placement("a")], {}, (["a"], ["lb-a"], []), id="a new amphora"),
    pytest.param([placement("a")], {"sent": {"a": 3}}, (["a"], [], []), id="one that is up to date"),
    pytest.param([placement("a")], {"sent": {"a": 2}}, (["a"], ["lb-a"], []), id="one that is behind"),
    pytest.param([placement("a", runnable=False)], {}, (["a"], [], []), id="one that has no ports yet"),
    pytest.param([placement("a")], {"told": {"b"}, "sent": {"a": 3}}, (["a", "b"], [], []), id="others stay"),
    pytest.param([placement("a", leaving=True)], {"told": {"a", "b"}, "carries": {"a"}}, (["b"], [], []),
                 id="one that is to leave"),
    pytest.param([placement("a", leaving=True)], {}, ([], [], ["a"]), id="one that never came"),
    pytest.param([placement("a", leaving=True, gone=True)], {}, ([], [], []), id="one that has gone"),
])
def test_orders(placements, known, told):
    given = {"told": frozenset(), "sent": {}, "carries": frozenset(), **known}
    amphorae, behind, gone = map(frozenset, told)
    assert orders(placements, **given) == Orders(amphorae=amphorae, behind=behind, gone=gone)
