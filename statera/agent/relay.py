# SPDX-License-Identifier: Apache-2.0
"""Takes in what all amphorae of this node log and passes it on, in one thread that nobody waits for.

Each amphora's HAProxy writes datagrams to a socket of ours; what we do not read in time the kernel refuses, and
HAProxy counts and forgets it. So neither a slow disk nor a dead log server is ever felt by traffic.
"""

import contextlib
import logging
import os
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from statera.agent.sinks import Sink

BATCH_LINES = 256
IDLE_SECONDS, BUSY_SECONDS = 1.0, 0.05
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_log = logging.getLogger(__name__)

Read = Callable[[socket.socket], bytes]


class Source:
    """One socket of an amphora. *read* gives one line, or b"" for none; the lines go to *sinks*, those that do not
    begin with *head* to *others*.
    """

    def __init__(
        self, amphora_id: str, intake: socket.socket, sinks: Sequence[Sink], *, others: Sequence[Sink] = (),
        head: bytes = b"", read: Read = lambda intake: intake.recv(1 << 16),
    ) -> None:
        self.amphora_id = amphora_id
        self.intake = intake
        self.sinks = sinks
        self.others = others
        self.head = head
        self.read = read
        self.is_open = True
        intake.setblocking(False)


class Relay:
    """Started once for a node; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, tuple[Source, ...]] = {}
        self._sinks: list[Sink] = []
        self._lost: dict[str, Counter[str]] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Read no more, give sinks what waits, let go."""
        self._ending = True
        self._ring()
        if self._thread.ident:
            self._thread.join()
        for source in (source for some in self._sources.values() for source in some):
            source.intake.close()
        for sink in self._sinks:
            sink.close()
        self._selector.close()
        os.close(self._woken)
        os.close(self._bell)

    def carry(self, amphora_id: str, sources: Sequence[Source]) -> None:
        """These are the amphora's sources from now on; sockets and sinks that nobody uses any more are closed."""
        with self._lock:
            former, before = self._sources.pop(amphora_id, ()), self._sinks
            if sources:
                self._sources[amphora_id] = tuple(sources)
            else:
                self._lost.pop(amphora_id, None)
            kept = {source.intake for source in sources}
            for source in former:
                self._selector.unregister(source.intake)
                source.is_open = False
                if source.intake not in kept:
                    source.intake.close()
            for source in sources:
                self._selector.register(source.intake, selectors.EVENT_READ, source)
            self._sinks = sinks_of(source for some in self._sources.values() for source in some)
            for sink in before:
                if sink not in self._sinks:
                    sink.close()
        self._ring()

    def lost(self, amphora_id: str) -> Counter[str]:
        """How many lines of the amphora were lost so far, by whom."""
        with self._lock:
            return self._lost.get(amphora_id, Counter()).copy()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"x")

    def _run(self) -> None:
        wait = IDLE_SECONDS
        while not self._ending:
            ready = self._selector.select(wait)
            with self._lock:
                for key, _ in ready:
                    if key.data is None:
                        os.read(self._woken, 4096)
                    elif key.data.is_open:
                        self._pass_on(key.data)
                wait = self._work()

    def _work(self) -> float:
        """Let sinks go on; after how long to look again."""
        now = time.monotonic()
        for sink in self._sinks:
            try:
                sink.work(now)
            except Exception:
                # One log server's trouble must not end all logs.
                _log.exception("%s", sink.name)
        return BUSY_SECONDS if any(sink.waits for sink in self._sinks) else IDLE_SECONDS

    def _pass_on(self, source: Source) -> None:
        lines = [clean(line) for line in self._lines(source)]
        flows = [line for line in lines if line.startswith(source.head)]
        others = [line for line in lines if not line.startswith(source.head)] if len(flows) < len(lines) else []
        for some, sinks in ((flows, source.sinks), (others, source.others)):
            for sink in sinks if some else ():
                self._miss(source, sink.put(some), sink.name)

    def _lines(self, source: Source) -> Iterator[bytes]:
        for _ in range(BATCH_LINES):
            try:
                line = source.read(source.intake)
            except BlockingIOError:
                return
            except OSError as error:
                # Of netlink: there was more than fits the socket.
                self._miss(source, 1, f"kernel ({error.strerror})")
                return
            if line:
                yield line

    def _miss(self, source: Source, count: int, whose: str) -> None:
        if count:
            self._lost.setdefault(source.amphora_id, Counter())[whose] += count


def sinks_of(sources: Iterable[Source]) -> list[Sink]:
    return list({id(sink): sink for source in sources for sink in (*source.sinks, *source.others)}.values())


def clean(line: bytes) -> bytes:
    """One line and no more: a control character within is shown as `#` and its number, as HAProxy does."""
    text = line.rstrip(b"\n")
    if CONTROL.search(text):
        text = CONTROL.sub(lambda found: b"#%02X" % found[0][0], text)
    return text + b"\n"
