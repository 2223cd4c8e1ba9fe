# SPDX-License-Identifier: Apache-2.0
"""The unix sockets of octavia-lib's driver library: a number of bytes, a line end, JSON; one question, one answer."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import msgspec
from oslo_log import log

LOG = log.getLogger(__name__)
Document = dict[str, Any]
Answer = Callable[[Document], Document]

LARGEST = 64 * 1024 * 1024
"""Bytes of a message: more than a driver has to say about the largest load balancer."""


class Refused(ValueError):
    """A message that is not of the form above."""


def receive(stream: IO[bytes] | BufferedIOBase) -> Document:
    """One message. Raise `Refused` for anything else, also for one that breaks off."""
    head = stream.readline(20)
    if not head.endswith(b"\n") or not head[:-1].isdigit() or int(head) > LARGEST:
        raise Refused(f"a message begins with its number of bytes, not with {head!r}")
    body = stream.read(int(head))
    if len(body) < int(head):
        raise Refused(f"a message of {int(head)} bytes ended after {len(body)}")
    try:
        return msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Refused(f"a message is one JSON object: {error}") from error


def framed(document: Document) -> bytes:
    body = msgspec.json.encode(document)
    return b"%d\n%s" % (len(body), body)


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers at *path* with *answer*, at most *most* at a time; a caller has *timeout* seconds to ask."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, answer: Answer, *, timeout: float, most: int) -> None:
        self.answer, self.patience, self.turns = answer, timeout, threading.Semaphore(most)
        super().__init__(str(path), Exchange)


class Exchange(socketserver.StreamRequestHandler):
    """One connection."""

    server: Server

    def setup(self) -> None:
        self.request.settimeout(self.server.patience)
        super().setup()

    def handle(self) -> None:
        with self.server.turns:
            try:
                self.wfile.write(framed(self._answered(receive(self.rfile))))
            except (Refused, OSError) as error:
                LOG.warning("a driver's request came to nothing: %s", error)

    def _answered(self, document: Document) -> Document:
        """Whatever one request does to us, its driver learns of it and the others get theirs."""
        try:
            return self.server.answer(document)
        except Exception as error:
            LOG.exception("a driver's request failed in a way nobody foresaw")
            return {"status_code": 500, "fault_string": f"{type(error).__name__}: {error}"}


@contextmanager
def serving(path: Path, answer: Answer, *, timeout: float, most: int) -> Iterator[None]:
    """Serve until the block ends. A socket that a dead process left is replaced; only its owner may use the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with Server(path, answer, timeout=timeout, most=most) as server:
        path.chmod(0o600)
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name=path.name)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            with suppress(FileNotFoundError):
                path.unlink()
