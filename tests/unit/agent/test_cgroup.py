# SPDX-License-Identifier: Apache-2.0
"""Limits are written as the kernel of either version wants them."""

from pathlib import Path

import pytest

from statera.agent import cgroup
from statera.agent.cgroup import Hits, Tree

V2 = "cgroup2 {top} cgroup2 rw,nosuid 0 0"
V1 = "cgroup {top}/memory cgroup rw,memory 0 0\ncgroup {top}/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0"


@pytest.mark.parametrize(("mounts", "found"), [
    pytest.param(V2, {"": ("", 2), "memory": ("", 2), "cpu": ("", 2)}, id="version 2"),
    pytest.param(V1, {"": ("memory", 1), "memory": ("memory", 1), "cpu": ("cpu,cpuacct", 1)}, id="version 1"),
    pytest.param("cgroup2 {top} cgroup2 ro,nosuid 0 0", {}, id="container without rights"),
    pytest.param("cgroup {top}/pids cgroup rw,pids 0 0", {}, id="version 1 without what we need"),
])
def test_where_groups_can_be_made(mounts, found):
    trees = cgroup.trees(mounts.format(top="/sys/fs/cgroup"), lambda _top: ["cpuset", "cpu", "memory"])
    top = Path("/sys/fs/cgroup")
    assert trees == {name: Tree(top / folder, version) for name, (folder, version) in found.items()}


def test_a_hybrid_host_finds_processes_in_version_2_and_limits_in_version_1():
    mounts = V1.format(top="/c") + "\ncgroup2 /c/unified cgroup2 rw 0 0"
    trees = cgroup.trees(mounts, lambda _top: ["hugetlb"])
    assert {name: tree.version for name, tree in trees.items()} == {"": 2, "memory": 1, "cpu": 1}


@pytest.fixture
def tree(tmp_path, request):
    """A tree of one version as the kernel would make it."""
    group = tmp_path / "statera" / "a"
    group.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "statera"):
        (folder / "cgroup.subtree_control").write_text("")
    for usage in cgroup.USAGE.values():
        (group / usage).write_text(str(50 << 20))
    return group, dict.fromkeys(("", "memory", "cpu"), Tree(tmp_path, request.param))


@pytest.mark.parametrize(("tree", "limits", "files"), [
    pytest.param(2, {"memory": 64, "cpu": 0.5}, {"memory.max": "67108864", "cpu.max": "50000 100000"}, id="version 2"),
    pytest.param(2, {"memory": 0, "cpu": 0}, {"memory.max": "max", "cpu.max": "max 100000"}, id="version 2, none"),
    pytest.param(1, {"memory": 64, "cpu": 1.5}, {"memory.limit_in_bytes": "67108864", "cpu.cfs_quota_us": "150000"},
                 id="version 1"),
    pytest.param(1, {"memory": 0, "cpu": 0}, {"memory.limit_in_bytes": "-1", "cpu.cfs_quota_us": "-1"},
                 id="version 1, none"),
], indirect=["tree"])
def test_limits_are_written_in_the_kernels_words(tree, limits, files):
    group, trees = tree
    assert cgroup.limit("a", limits, trees) == {}
    assert {name: (group / name).read_text() for name in files} == files


@pytest.mark.parametrize("tree", [1, 2], indirect=True)
def test_memory_that_is_in_use_is_not_taken_away(tree):
    group, trees = tree
    assert cgroup.limit("a", {"memory": 40}, trees) == {"memory": "more than 40 MB are in use"}
    assert not (group / "memory.max").exists()


def test_a_limit_that_the_host_cannot_hold_is_said():
    assert cgroup.limit("a", {"memory": 64, "cpu": 0}, {}) == {
        "memory": "this host has no control groups for memory"}


@pytest.mark.parametrize(("tree", "files", "hits"), [
    pytest.param(2, {"memory.events": "max 9\noom_kill 2\n", "cpu.stat": "nr_throttled 15\n"},
                 Hits(killed=2, throttled=15), id="version 2"),
    pytest.param(1, {"memory.oom_control": "under_oom 0\noom_kill 1\n", "cpu.stat": "nr_throttled 15\n"},
                 Hits(killed=1, throttled=15), id="version 1"),
    pytest.param(1, {}, Hits(), id="an older kernel"),
], indirect=["tree"])
def test_what_the_kernel_counted_is_read(tree, files, hits):
    group, trees = tree
    for name, text in files.items():
        (group / name).write_text(text)
    assert cgroup.hits("a", trees) == hits
