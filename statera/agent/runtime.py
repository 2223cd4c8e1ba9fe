# SPDX-License-Identifier: Apache-2.0
"""Talk to a running HAProxy through its sockets: ask, command, know whether a command was obeyed."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from statera.errors import TryAgain

BATCH = 20
PATIENCE_SECONDS = 5.0

OBEYED = re.compile("|".join((
    r"New server registered\.",
    r"Server deleted\.",
    r"All sockets are already (en|dis)abled\.",
    r"(IP|port) changed from .*",
    r"no need to change .*",
    r"health check .* updated.*",
    r"Transaction (created|updated) for certificate .*",
    r"Committing .*",
    r"Success!",
    r"New empty certificate store .*",
    r"Inserting certificate .*",
    r"Entry .* deleted in crtlist .*",
    r"Certificate .* deleted!",
)))
"""What HAProxy 2.6 says to a command that it obeyed; to most it says nothing."""


async def ask(socket: Path, command: str) -> str:
    """HAProxy's answer to a command, or to several joined by `;`. Raise `TryAgain` when nobody answers."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(command.encode() + b"\n")
                # The master's socket stays open until we say that nothing follows (HAProxy 2.6).
                writer.write_eof()
                return (await reader.read(-1)).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise TryAgain("HAPROXY_SILENT", f"HAProxy does not answer on {socket}: {error!r}") from error


async def command(socket: Path, commands: Sequence[str]) -> list[str]:
    """Give the commands in order; return what HAProxy objected to, nothing when all were obeyed."""
    return [line for line in await lines(socket, commands) if not OBEYED.fullmatch(line.strip())]


async def lines(socket: Path, commands: Sequence[str]) -> list[str]:
    """Give the commands in order; return all that HAProxy said, without empty lines."""
    answers = [await ask(socket, batch) for batch in batches(commands)]
    return [line for answer in answers for line in answer.splitlines() if line]


def batches(commands: Sequence[str]) -> Iterator[str]:
    """So many commands as one line takes; one with a payload goes alone."""
    for has_payload, group in groupby(commands, lambda command: "\n" in command):
        some = list(group)
        size = 1 if has_payload else BATCH
        yield from ("; ".join(some[start:start + size]) for start in range(0, len(some), size))


async def info(socket: Path) -> dict[str, str]:
    """`show info` as a dictionary."""
    return dict(line.split(": ", 1) for line in await lines(socket, ["show info"]) if ": " in line)


def rows(answer: str) -> list[dict[str, str]]:
    """The answer to `show stat`, a dictionary for each proxy and server."""
    head, *table = [line for line in answer.splitlines() if line]
    names = head.removeprefix("# ").split(",")
    return [dict(zip(names, line.split(","), strict=False)) for line in table]
