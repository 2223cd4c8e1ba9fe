# SPDX-License-Identifier: Apache-2.0
"""Where log lines end up: files that turn over, and syslog servers of which the first that takes them gets them.

Nothing here waits: what cannot be taken now is queued, and beyond the queue's size it is lost and counted.
"""

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from statera.model.logs import Target

Lines = Sequence[bytes]
"""Each with its newline."""


class Sink(Protocol):
    """*name* says which it is, to those who read that lines are lost."""

    name: str

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""

    def put(self, lines: Lines) -> int:
        """Take the lines; how many are lost."""

    def work(self, now: float) -> None:
        """Do what can be done now; *now* is monotonic."""

    def close(self) -> None:
        """Let go; what waits is lost."""


class File:
    """A file that is renamed `.1`, `.2`… when it has grown to *most_bytes*; *files* in all are kept."""

    def __init__(self, path: Path, most_bytes: int, files: int) -> None:
        self.name = f"file {path.name}"
        self.waits = False
        self._path = path
        self._most_bytes = most_bytes
        self._files = files
        self._fd = -1
        self._size = 0

    def put(self, lines: Lines) -> int:
        try:
            self._open()
            data = b"".join(lines)
            written = os.write(self._fd, data)
        except OSError:
            return len(lines)
        self._size += written
        return len(lines) - data.count(b"\n", 0, written)

    def work(self, now: float) -> None:
        pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0 and self._size >= self._most_bytes:
            self.close()
            self._turn_over()
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{age}") for age in range(1, self._files))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            newer.replace(older) if newer.exists() else None
        if self._files == 1:
            self._path.unlink(missing_ok=True)


BATCH_BYTES = 1 << 16


class Syslog:
    """The first of *targets* that takes lines gets them; the others stand by.

    When all have failed there is a rest of *retry_seconds*, and after *retry_count* of these on a later target
    the first is tried again. *door* makes the sockets, in the namespace from which the targets are reached.
    """

    def __init__(
        self, targets: Sequence[Target], *, size: int, retry_seconds: float, retry_count: int,
        door: Callable[[int, int], socket.socket] = socket.socket,
    ) -> None:
        self.name = f"log target {', '.join(map(str, targets))}"
        self._targets = targets
        self._size = size
        self._retry_seconds = retry_seconds
        self._patience_seconds = retry_seconds * max(1, retry_count)
        self._door = door
        self._queue: deque[bytes] = deque()
        self._unsent = b""
        self._is_torn = False
        self._at = 0
        self._socket: socket.socket | None = None
        self._connecting_until = 0.0
        self._rest_until = 0.0
        self._second_best_until = 0.0

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""
        return bool(self._queue or self._unsent)

    def put(self, lines: Lines) -> int:
        room = max(0, self._size - len(self._queue))
        self._queue.extend(lines[:room])
        return max(0, len(lines) - room)

    def work(self, now: float) -> None:
        """Send what can be sent; a target that fails is followed by the next one."""
        if self._at and self._socket and now > self._second_best_until:
            self._leave(0)
        for _ in self._targets:
            if now < self._rest_until or not self._ready(now):
                return
            try:
                self._send()
            except BlockingIOError:
                return
            except OSError:
                self._fail(now)
            else:
                return

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    @property
    def _target(self) -> Target:
        return self._targets[self._at]

    def _ready(self, now: float) -> bool:
        """Whether there is a connection to send by; one that cannot be made is given up here."""
        while self._socket is None or self._connecting_until:
            if now < self._rest_until:
                return False
            try:
                if self._socket is None:
                    self._connect(now)
                if self._connecting_until and not self._is_connected(now):
                    return False
                self._connecting_until = 0.0
            except OSError:
                self._fail(now)
        return True

    def _connect(self, now: float) -> None:
        kind = socket.SOCK_STREAM if self._target.kind == "tcp" else socket.SOCK_DGRAM
        family = FAMILIES[":" in self._target.place] if self._target.kind != "unix" else socket.AF_UNIX
        self._socket = self._door(family, kind)
        self._socket.setblocking(False)
        where = self._target.place if self._target.kind == "unix" else (self._target.place, self._target.port)
        number = self._socket.connect_ex(where)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        self._connecting_until = now + self._patience_seconds if number else 0.0

    def _is_connected(self, now: float) -> bool:
        assert self._socket
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number or now > self._connecting_until:
            raise OSError(number or errno.ETIMEDOUT, "not reached")
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _send(self) -> None:
        assert self._socket
        if self._target.kind != "tcp":
            while self._queue:
                self._socket.send(self._queue[0].rstrip(b"\n"))
                self._queue.popleft()
            return
        if self._has_ended():
            raise ConnectionResetError(errno.ECONNRESET, "ended by the server")
        while self._unsent or self._queue:
            while self._queue and len(self._unsent) < BATCH_BYTES:
                self._unsent += self._queue.popleft()
            sent = self._socket.send(self._unsent)
            self._is_torn = self._unsent[sent - 1:sent] != b"\n"
            self._unsent = self._unsent[sent:]

    def _has_ended(self) -> bool:
        """Whether the server closed: it says nothing otherwise."""
        assert self._socket
        try:
            return self._socket.recv(4096) == b""
        except BlockingIOError:
            return False

    def _fail(self, now: float) -> None:
        """Go on to the next target, after a rest when that was the last. A line of which a part was sent is over."""
        self._unsent = self._unsent.partition(b"\n")[2] if self._is_torn else self._unsent
        self._is_torn = False
        self._leave((self._at + 1) % len(self._targets))
        if self._at == 0:
            self._rest_until = now + self._retry_seconds
        self._second_best_until = now + self._patience_seconds

    def _leave(self, at: int) -> None:
        self.close()
        self._connecting_until = 0.0
        self._at = at


FAMILIES = {False: socket.AF_INET, True: socket.AF_INET6}
