# SPDX-License-Identifier: Apache-2.0
"""The ways to ask a member whether it is well. Each returns when it is, and raises `OSError` when it is not."""

import asyncio
import contextlib
import ipaddress
import os
import re
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import Struct

from statera.agent import sctp
from statera.render.text import address
from statera.wire import MonitorSpec

MOST_HEAD = 4096


class Target(Struct, frozen=True):
    """Whom to ask, and how."""

    monitor: MonitorSpec
    address: str
    port: int

    @property
    def is_six(self) -> bool:
        return ipaddress.ip_address(self.address).version == 6


Open = Callable[[int, int, int], Awaitable[socket.socket]]
"""Makes a socket of this family, kind and protocol in the amphora's namespace."""
Ask = Callable[[Target, Open], Awaitable[None]]


@contextlib.asynccontextmanager
async def connected(target: Target, open_: Open, *, kind: int, protocol: int = 0) -> AsyncIterator[socket.socket]:
    """A socket that hears from the target alone."""
    made = await open_(socket.AF_INET6 if target.is_six else socket.AF_INET, kind, protocol)
    try:
        made.setblocking(False)
        if kind == socket.SOCK_RAW:
            # It takes no port; asyncio would ask the resolver for one.
            made.connect((target.address, 0))
        else:
            await asyncio.get_running_loop().sock_connect(made, (target.address, target.port))
        yield made
    finally:
        made.close()


async def by_connection(target: Target, open_: Open) -> None:
    async with connected(target, open_, kind=socket.SOCK_STREAM) as link:
        # Gone without a trace, as HAProxy's own checks are.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def by_http(target: Target, open_: Open) -> None:
    loop = asyncio.get_running_loop()
    async with connected(target, open_, kind=socket.SOCK_STREAM) as link:
        await loop.sock_sendall(link, request(target))
        head = b""
        while b"\n" not in head and len(head) < MOST_HEAD and (data := await loop.sock_recv(link, MOST_HEAD)):
            head += data
    found = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if found is None or not expects(target.monitor.expected_codes or "200", int(found[1])):
        raise ConnectionError(f"answered {head[:40]!r}")


def request(target: Target) -> bytes:
    """RFC 9112, 3.2: without a host servers refuse HTTP/1.1; by default it is the member's own address."""
    monitor = target.monitor
    version = "1.1" if monitor.http_version == 1.1 else "1.0"
    host = [f"Host: {monitor.domain_name or address(target.address)}"] if version == "1.1" else []
    first = f"{monitor.http_method or 'GET'} {monitor.url_path or '/'} HTTP/{version}"
    return "\r\n".join([first, *host, "Connection: close", "", ""]).encode()


def expects(codes: str, status: int) -> bool:
    """Whether *codes*, as "200,202-204", hold this status."""
    spans = (code.partition("-") for code in codes.split(","))
    return any(int(first) <= status <= int(last or first) for first, _, last in spans)


async def by_datagram(target: Target, open_: Open) -> None:
    """Silence is consent: only the answer that nobody listens, or nobody is there, is a failure."""
    loop = asyncio.get_running_loop()
    async with connected(target, open_, kind=socket.SOCK_DGRAM) as link:
        await loop.sock_sendall(link, b"\0")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(target.monitor.timeout * 0.9):
                await loop.sock_recv(link, 1)


async def by_echo(target: Target, open_: Open) -> None:
    loop = asyncio.get_running_loop()
    ask, reply, protocol = (128, 129, socket.IPPROTO_ICMPV6) if target.is_six else (8, 0, socket.IPPROTO_ICMP)
    body = os.urandom(20)
    async with connected(target, open_, kind=socket.SOCK_RAW, protocol=protocol) as link:
        # For ICMPv6 the kernel makes the checksum itself.
        head = struct.pack("!BBH", ask, 0, 0 if target.is_six else checksum(struct.pack("!BBH", ask, 0, 0) + body))
        await loop.sock_sendall(link, head + body)
        while True:
            answer = payload(target, await loop.sock_recv(link, 2048))
            if answer[0] == reply and answer[4:] == body:
                return


async def by_init(target: Target, open_: Open) -> None:
    """Somebody listens who accepts an association, which is given up at once."""
    loop = asyncio.get_running_loop()
    source, tag = 1024 + secrets.randbelow(64_000), 1 + secrets.randbelow(2**32 - 1)
    async with connected(target, open_, kind=socket.SOCK_RAW, protocol=socket.IPPROTO_SCTP) as link:
        await loop.sock_sendall(link, sctp.packed(sctp.Packet(source, target.port, 0, sctp.INIT, tag)))
        while True:
            answer = sctp.parsed(payload(target, await loop.sock_recv(link, 2048)))
            if answer is None or (answer.source, answer.port, answer.tag) != (target.port, source, tag):
                continue
            if answer.chunk != sctp.INIT_ACK:
                raise ConnectionError("refused")
            end = sctp.Packet(source, target.port, answer.offered, sctp.ABORT)
            await loop.sock_sendall(link, sctp.packed(end))
            return


def payload(target: Target, data: bytes) -> bytes:
    """What a raw socket received, without the header that it is given in version 4."""
    return data if target.is_six else data[(data[0] & 15) * 4:]


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


ASKS: dict[str, Ask] = {
    "TCP": by_connection,
    "HTTP": by_http,
    "UDP-CONNECT": by_datagram,
    "SCTP": by_init,
    "PING": by_echo,
}
