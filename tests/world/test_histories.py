# SPDX-License-Identifier: Apache-2.0
"""Random histories on a stepped clock, the short form: `script/chaos` lives through thousands."""

import time
from collections.abc import Iterator

import pytest
from histories import FAULTS, OPERATIONS, History, Step, Violation, run, steps_of
from stepped import Stepped

SECONDS, MOST = 20.0, 100
"""As many histories as fit, the same ones each time: luck is for `script/chaos`."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stepped]:
    built = Stepped(tmp_path_factory.mktemp("world"))
    yield built
    built.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pair_of_changes_survives(world: Stepped, fault: str) -> None:
    """Each fault at least once, whatever chance says below."""
    steps = [Step("create", "nothing breaks", 1), Step("set members", fault, 2), Step("fail over", fault, 3)]
    assert run(world, 4, steps) is None


def test_random_histories_end_well(world: Stepped, capsys: pytest.CaptureFixture[str]) -> None:
    until, lived = time.monotonic() + SECONDS, 0
    while time.monotonic() < until and lived < MOST:
        seed = 1_000_000 + lived
        steps = steps_of(seed)
        wrong = run(world, seed, steps)
        assert wrong is None, f"script/chaos --seed {seed} --histories 1: {wrong}\n" + "\n".join(map(str, steps))
        lived += 1
    with capsys.disabled():
        print(f" {lived} histories of {len(FAULTS)} faults and {len(OPERATIONS)} operations", end="")
    assert lived > 0


def test_a_lost_write_would_be_noticed(world: Stepped) -> None:
    """The judge of histories is judged: a member that nobody acknowledged, or that is lost, is a violation."""
    history = History(world, 5)
    history.live([Step("create", "nothing breaks", 6)])
    [tree] = history.trees.values()
    tree.members["nobody"] = "10.0.0.99"
    with pytest.raises(Violation, match="were acknowledged"):
        history.check()
