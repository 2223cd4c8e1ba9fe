# SPDX-License-Identifier: Apache-2.0
"""Which spare amphorae are made and which have to go."""

import pytest

from statera.controller.spares import AddSpare, BringSpare, RemoveSpare, RetireSpare, plan_spares
from statera.model.fleet import Spare

NEWEST = {"image_id": "new", "compute_flavor": "small"}
READY = Spare(id="ready", node_id="n", heard=True, image_id="new", compute_flavor="small")
BOOTING = Spare(id="booting", image_id="new")
LEAVING = Spare(id="leaving", leaving=True)


def steps(*spares, size=1, zones=(None,), budget=1.0):
    return plan_spares(zones, spares, size=size, newest=NEWEST, budget=budget)


@pytest.mark.parametrize(("spares", "asked", "expected"), [
    pytest.param((), {}, [AddSpare(None)], id="one is missing"),
    pytest.param((READY,), {}, [], id="all there"),
    pytest.param((BOOTING,), {}, [BringSpare("booting", None)], id="one boots"),
    pytest.param((), {"size": 2, "zones": ("b", None)},
                 [AddSpare(None), AddSpare(None), AddSpare("b"), AddSpare("b")], id="as many in each zone"),
    pytest.param((READY,), {"zones": ("b",)}, [RetireSpare("ready", "none is wanted there"), AddSpare("b")],
                 id="a zone that is no more"),
    pytest.param((), {"budget": 0.4}, [], id="replacements come first"),
    pytest.param((BOOTING, READY), {}, [RetireSpare("booting", "fewer are wanted")], id="what is ready stays"),
    pytest.param((READY,), {"size": 0}, [RetireSpare("ready", "none is wanted there")], id="none is wanted"),
    pytest.param((LEAVING, READY), {}, [RemoveSpare("leaving")], id="one goes"),
    pytest.param((LEAVING,), {"size": 0}, [RemoveSpare("leaving", last=True)], id="the last one goes"),
    pytest.param((LEAVING,), {}, [RemoveSpare("leaving"), AddSpare(None)], id="one goes and another comes"),
])
def test_what_is_done(spares, asked, expected):
    assert steps(*spares, **asked) == expected


@pytest.mark.parametrize(("facts", "why"), [
    pytest.param({"lost": True}, "its node is lost", id="lost"),
    pytest.param({"image_id": "old"}, "image_id is another now", id="another image"),
    pytest.param({"image_id": "old", "compute_flavor": "large"}, "image_id and compute_flavor is another now",
                 id="another image and flavor"),
])
def test_what_nobody_should_have_makes_room(facts, why):
    spare = Spare(id="s", node_id="n", heard=True, **facts)
    assert steps(spare) == [RetireSpare("s", why), AddSpare(None)]


def test_what_is_not_known_is_no_reason():
    assert steps(Spare(id="s", node_id="n", heard=True)) == []
