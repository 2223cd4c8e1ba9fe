# SPDX-License-Identifier: Apache-2.0
"""The five services as children of one process: started together, started again when they die, stopped together."""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct

from statera.commands.start import die_with_parent

STOP_SECONDS = 30.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 15.0
"""Between a service's death and its next start; waits double while it dies young."""

YOUNG_SECONDS = 30.0
LARGEST_LOG = 20_000_000

Say = Callable[[str], None]


class Service(Struct, frozen=True):
    name: str
    argv: tuple[str, ...]


def installed(name: str, *args: str) -> Service:
    """The command *name* that is installed beside our own Python."""
    return Service(name, (str(Path(sys.executable).with_name(name)), *args))


def services(configuration: Path) -> tuple[Service, ...]:
    """All that makes a load balancer, in the order of its way to the packet."""
    option = ("--config-file", str(configuration))
    return (
        installed("octavia-api", *option), installed("octavia-worker", *option),
        installed("octavia-health-manager", *option), installed("octavia-housekeeping", *option),
        installed("statera-agent", "run", *option),
    )


async def supervise(wanted: Sequence[Service], logs: Path, say: Say, story: Callable[[], Awaitable[None]]) -> None:
    """Run the services until SIGINT or SIGTERM; *story* is told meanwhile, and ends everything if it raises.

    The services do not get the terminal's Ctrl-C, and end when this process is killed.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keepers = [asyncio.create_task(keep(service, logs / f"{service.name}.log", stop, say)) for service in wanted]
    teller = asyncio.create_task(_tell(story, stop))
    await stop.wait()
    say("stopping; load balancers go on as they are")
    await asyncio.gather(*keepers)
    await teller


async def _tell(story: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    task = asyncio.ensure_future(story())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        return
    if task.exception() is not None:
        stop.set()
    stopped.cancel()
    task.result()


async def keep(service: Service, log: Path, stop: asyncio.Event, say: Say) -> None:
    """Have the service run until *stop* is set."""
    wait_seconds = FIRST_WAIT_SECONDS
    while not stop.is_set():
        born = time.monotonic()
        status = await run(service, log, stop)
        if stop.is_set():
            return
        wait_seconds = FIRST_WAIT_SECONDS if time.monotonic() - born > YOUNG_SECONDS else wait_seconds
        say(f"{service.name} {ended(status)}, starts again in {wait_seconds:g} s: {last_line(log)}")
        await within(stop, wait_seconds)
        wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)


async def run(service: Service, log: Path, stop: asyncio.Event) -> int:
    """Run the service once, till it ends or, politely and then not, is ended because of *stop*."""
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *service.argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=die_with_parent,
        )
    death = asyncio.create_task(child.wait())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((death, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not death.done():
        child.terminate()
        await asyncio.wait((death,), timeout=STOP_SECONDS)
    if not death.done():
        child.kill()
    return await death


async def within(event: asyncio.Event, seconds: float) -> None:
    """Return when *event* is set or *seconds* are over."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait((waiting,), timeout=seconds)
    waiting.cancel()


def ended(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def last_line(log: Path) -> str:
    """The last that the service said."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
