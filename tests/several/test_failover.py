# SPDX-License-Identifier: Apache-2.0
"""Nodes that die or are cut off, amphorae that are replaced and resized, on real hosts and under real traffic.

`script/bench failover` does the same and more.
"""

from collections.abc import Iterator

import pytest

from benchmarks import failover
from benchmarks.client import until
from benchmarks.failover import Stage, dead_node, resize


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with failover.stage(tmp_path_factory.mktemp("failover")) as running:
        yield running


def measured(job: failover.Job, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Print what the job measured; nothing of it may have failed."""
    rows = list(job(stage))
    with capsys.disabled():
        print("".join(f"\n  {row.what}: {row.values[0]:.3g} {row.unit}" for row in rows), end="")
    assert [row.what for row in rows if row.failed] == []


@pytest.mark.parametrize("job", [
    pytest.param(dead_node("SINGLE", 20.0), id="a node with a single one dies"),
    pytest.param(failover.failover("ACTIVE_STANDBY", allowed=0), id="a pair is failed over"),
    pytest.param(resize, id="a single one becomes a pair and single again"),
])
def test_traffic(job: failover.Job, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    measured(job, stage, capsys)


def test_a_node_that_was_cut_off_serves_on_until_another_one_does_and_steps_back_then(stage: Stage) -> None:
    [controller] = stage.centre.controllers
    with stage.balancer("SINGLE") as made:
        host = stage.bearer(made)
        [old] = [one["id"] for one in stage.amphorae(made)]
        stage.centre.cut(host, controller)
        assert stage.client.get(made["vip_address"])
        until(lambda: is_silent(host, old), seconds=60, otherwise=host.agent.said)
        assert stage.bearer(made) is not host
        until(lambda: stage.client.get(made["vip_address"]), seconds=20)
        assert "leaves; runs version" in stage.centre.statera("lb", "explain", made["id"])
        stage.centre.heal()
        until(lambda: old not in host.amphorae(), seconds=60, otherwise=host.agent.said)
        until(lambda: stage.settled(made, roles=1, instead_of=[old]), seconds=30)


def is_silent(host: failover.Host, amphora_id: str) -> bool:
    """Whether nothing of the amphora is heard on its network."""
    return " DOWN " in host.run("ip", "-n", f"amphora-{amphora_id}", "-br", "link", "show", "eth1")
