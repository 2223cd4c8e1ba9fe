# SPDX-License-Identifier: Apache-2.0
"""A plain client: for the api, for what is behind a VIP, and for waiting."""

import base64
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

Document = dict[str, Any]

IDLE_SECONDS = 5.0
"""Servers close connections that nobody uses, perhaps just when somebody does again."""


class Unanswered(Exception):
    """Nobody answered the request: it may have been obeyed or not."""


class Refused(Exception):
    """The api's answer was not the one that was hoped for."""


class Api:
    """One connection to the api of *url*, opened again when it breaks or was not used for a while; for one thread."""

    def __init__(self, url: str, user: str, password: str, *, patience_seconds: float = 30.0) -> None:
        self._patience_seconds = patience_seconds
        self._host = url.removeprefix("http://")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def call(
        self, method: str, path: str, body: Document | None = None, *, key: str | None = None
    ) -> tuple[int, Document]:
        """Status and document. Raise `Unanswered` when no answer came; a creation may be repeated with its *key*."""
        headers = {**self._headers, "Idempotency-Key": key} if key else self._headers
        data = None if body is None else json.dumps(body).encode()
        if time.monotonic() > self._used + IDLE_SECONDS:
            self.close()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(self._host, timeout=self._patience_seconds)
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unanswered(f"{method} {path}: {error!r}") from error
        self._used = time.monotonic()
        return answer.status, json.loads(text) if text else {}

    def get(self, path: str) -> Document:
        return self._expect("GET", path, None)

    def post(self, path: str, body: Document) -> Document:
        return self._expect("POST", path, body)

    def put(self, path: str, body: Document) -> Document:
        return self._expect("PUT", path, body)

    def delete(self, path: str) -> Document:
        return self._expect("DELETE", path, None)

    def status(self, load_balancer_id: str) -> str:
        """Its provisioning status; DELETED when the api does not know it (any more)."""
        code, document = self.call("GET", f"/v2/lbaas/loadbalancers/{load_balancer_id}")
        return "DELETED" if code == 404 else str(document["loadbalancer"]["provisioning_status"])

    def wait_for(self, load_balancer_id: str, status: str, *, seconds: float = 30.0) -> float:
        """Return the seconds until the load balancer is that; a failure says what it is instead."""
        return until(lambda: self.status(load_balancer_id) == status, seconds=seconds,
                     otherwise=lambda: f"load balancer {load_balancer_id} is {self.status(load_balancer_id)}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _expect(self, method: str, path: str, body: Document | None) -> Document:
        status, document = self.call(method, path, body)
        if status >= 300:
            raise Refused(f"{method} {path}: {status} {document}")
        return document


def tree(
    subnet_id: str, servers: Sequence[str], *, name: str = "bench", members: int = 2, monitor: bool = True
) -> Document:
    """The request for a load balancer with an HTTP listener on port 80 and a pool of the first few *servers*."""
    pool: Document = {
        "name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
        "members": [member(address) for address in servers[:members]],
    }
    if monitor:
        pool["healthmonitor"] = {"type": "HTTP", "delay": 5, "timeout": 2, "max_retries": 2}
    listener = {"name": "http", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    return {"loadbalancer": {"name": name, "vip_subnet_id": subnet_id, "listeners": [listener]}}


def member(address: str, port: int = 80) -> Document:
    return {"address": address, "protocol_port": port}


def body_of(address: str, *, port: int = 80, timeout_seconds: float = 1.0) -> str | None:
    """The body of a 200 to one request on a connection of its own; None for anything else."""
    request = f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    answer = b""
    try:
        with socket.create_connection((address, port), timeout=timeout_seconds) as connection:
            connection.sendall(request)
            while data := connection.recv(65536):
                answer += data
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body.decode() if head.startswith(b"HTTP/1.1 200 ") else None


def is_open(address: str, port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def answers(url: str) -> bool:
    """Whether there is an api that tells its versions."""
    api = Api(url, "bench", "")
    try:
        return api.call("GET", "/")[0] == 200
    except Unanswered:
        return False
    finally:
        api.close()


def until(
    claim: Callable[[], Any], *, seconds: float = 10.0, step_seconds: float = 0.002,
    otherwise: Callable[[], str] = str,
) -> float:
    """Wait until the claim holds and return how long that took."""
    began, pause = time.monotonic(), threading.Event()
    while not claim():
        assert time.monotonic() - began < seconds, f"not so within {seconds:g} s: {otherwise()}"
        pause.wait(step_seconds)
    return time.monotonic() - began
