# SPDX-License-Identifier: Apache-2.0
"""The services' parent: it starts again what dies and ends all when told to."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from statera.commands.tree import Service, ended, keep, last_line


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def tell(line: str, log: Path, heard: Callable[[list[str]], bool]) -> list[str]:
    """What the parent says about a service until *heard* is content and it is stopped."""
    said: list[str] = []

    async def story() -> None:
        stop = asyncio.Event()
        keeper = asyncio.create_task(keep(Service("shell", ("/bin/sh", "-c", line)), log, stop, said.append))
        await until(lambda: heard(said))
        stop.set()
        await asyncio.wait_for(keeper, 10)

    asyncio.run(story())
    return said


def test_a_service_that_dies_is_started_again_and_its_last_words_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = tell("echo no such table; exit 3", log, lambda said: len(said) >= 2)
    assert said[0] == "shell ended with status 3, starts again in 0.1 s: no such table"
    assert said[1] == "shell ended with status 3, starts again in 0.2 s: no such table"


def test_a_service_that_runs_is_asked_to_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = tell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done", log,
                lambda _said: log.exists() and "up" in log.read_text())
    assert said == []
    assert last_line(log) == "bye"


def test_deaths_are_told_by_name() -> None:
    assert ended(-9) == "was killed by SIGKILL"
    assert ended(1) == "ended with status 1"
