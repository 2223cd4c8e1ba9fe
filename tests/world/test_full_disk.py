# SPDX-License-Identifier: Apache-2.0
"""A disk without room for another row: callers are told, nothing breaks, and all goes on when there is room."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from histories import History, Step
from stepped import Stepped


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of five megabytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_full_disk_is_told_and_survived(disk: Path) -> None:
    world = Stepped(disk)
    try:
        history = History(world, 1)
        history.live([Step("create", "nothing breaks", 2)])
        [tree] = history.trees.values()
        ballast = fill(disk)
        refused = [world.call("POST", f"/pools/{tree.pool}/members", member={
            "address": f"10.0.0.{last}", "protocol_port": 80}) for last in range(100, 250)]
        told = next(answer for answer in refused if answer.status_code != 201)
        assert told.status_code == 503
        assert "full" in told.json["faultstring"]
        assert world.call("GET", f"/pools/{tree.pool}").status_code == 200
        for answer in refused:
            if answer.status_code == 201:
                tree.members[answer.json["member"]["id"]] = answer.json["member"]["address"]
        for _ in range(5):
            world.tick()
        ballast.unlink()
        history.settle()
        history.check()
        assert sqlite3.connect(world.path).execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        world.close()
