# SPDX-License-Identifier: Apache-2.0
"""Ask the kernel about flows and counters of a namespace, and cut flows: the little of netlink that takes."""

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from statera.errors import TryAgain

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
NESTED = 0x8000
GET_FLOWS, DELETE_FLOW = 0x101, 0x102
GET_OBJECTS = 0x0A13
FAMILY_ANY, FAMILY_INET = 0, 1
COUNTER = 1
TUPLE_ORIGINAL, TUPLE_REPLY, STATUS, MARK = 1, 2, 3, 8
COUNTERS_ORIGINAL, COUNTERS_REPLY, TIMES = 9, 10, 20
FLOW_ENDED, ENDINGS = 0x102, 1 << 2
"""The kind of message, and the group of those who hear it."""
IP, PROTO = 1, 2
OBJECT_TABLE, OBJECT_NAME, OBJECT_TYPE, OBJECT_DATA = 1, 2, 3, 4
TRANSLATED = 0x20
PATIENCE_SECONDS = 10.0

Attributes = dict[int, bytes]


class Flow(Struct, frozen=True):
    """A flow whose destination was translated: its door, where it ends, and its listener's number."""

    protocol: int
    vip: str
    port: int
    member: str
    member_port: int
    mark: int
    original: bytes
    family: int

    @property
    def door(self) -> tuple[int, str, int]:
        return self.protocol, self.vip, self.port

    @property
    def end(self) -> tuple[str, int]:
        return self.member, self.member_port


class Ending(Struct, frozen=True):
    """A flow that is over: who had come, what went through it, when it began and ended (seconds since 1970)."""

    flow: Flow
    client: str
    client_port: int
    bytes_in: int
    bytes_out: int
    began: float
    ended: float


def endings() -> socket.socket:
    """A socket that hears of each flow's end in the namespace in which the calling thread is; read it by `ending`."""
    for name in ("nf_conntrack_acct", "nf_conntrack_timestamp"):
        Path(f"/proc/sys/net/netfilter/{name}").write_text("1")
    heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    heard.bind((0, ENDINGS))
    return heard


def ending(message: bytes) -> Ending | None:
    """What the kernel says of a flow's end; None for what is none of ours: its destination was not translated."""
    length, kind = struct.unpack_from("=IH", message)
    attributes = _parse(message[20:length])
    status = int.from_bytes(attributes.get(STATUS, b""), "big")
    if kind != FLOW_ENDED or not status & TRANSLATED or TUPLE_REPLY not in attributes:
        return None
    original, times = _parse(attributes[TUPLE_ORIGINAL]), _parse(attributes.get(TIMES, b""))
    into, out = (_parse(attributes.get(kind, b"")) for kind in (COUNTERS_ORIGINAL, COUNTERS_REPLY))
    began, ended = (int.from_bytes(times.get(which, b""), "big") / 1e9 for which in (1, 2))
    return Ending(
        flow=_flow(message[16], attributes), client=_address(original[IP], 1),
        client_port=int.from_bytes(_parse(original[PROTO]).get(2, b""), "big"),
        bytes_in=int.from_bytes(into.get(2, b""), "big"), bytes_out=int.from_bytes(out.get(2, b""), "big"),
        began=began, ended=ended)


class Netfilter:
    """For the namespace in which the calling thread is when this is made; usable from anywhere then."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def close(self) -> None:
        self._socket.close()

    def flows(self) -> Iterator[Flow]:
        """All flows whose destination was translated. Raise `TryAgain` when the kernel does not answer."""
        for family, attributes in self._ask(GET_FLOWS, DUMP, FAMILY_ANY):
            status = int.from_bytes(attributes.get(STATUS, b""), "big")
            if status & TRANSLATED and TUPLE_REPLY in attributes:
                yield _flow(family, attributes)

    def cut(self, flow: Flow) -> None:
        """Forget a flow, so that its next packet is its first; one that has ended is success."""
        list(self._ask(DELETE_FLOW, ACK, flow.family, _attribute(TUPLE_ORIGINAL | NESTED, flow.original)))

    def counters(self, table: str) -> dict[str, tuple[int, int]]:
        """Bytes and packets by the name of the counter; nothing when there is no such table."""
        wanted = _attribute(OBJECT_TABLE, table.encode() + b"\0") + _attribute(OBJECT_TYPE, struct.pack(">I", COUNTER))
        return {
            attributes[OBJECT_NAME].rstrip(b"\0").decode(): _count(attributes[OBJECT_DATA])
            for _, attributes in self._ask(GET_OBJECTS, DUMP, FAMILY_INET, wanted)
        }

    def _ask(self, kind: int, flags: int, family: int, payload: bytes = b"") -> list[tuple[int, Attributes]]:
        body = struct.pack(">BBH", family, 0, 0) + payload
        try:
            self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 0, 0) + body)
            return list(self._answers())
        except OSError as error:
            raise TryAgain("NETFILTER", f"the kernel's packet filter does not answer: {error}") from error

    def _answers(self) -> Iterator[tuple[int, Attributes]]:
        while True:
            data, start = self._socket.recv(1 << 18), 0
            while start < len(data):
                length, kind = struct.unpack_from("=IH", data, start)
                body, start = data[start + 16:start + length], start + (length + 3 & ~3)
                if kind == DONE:
                    return
                if kind == ERROR:
                    _raise_unless_gone(-struct.unpack_from("=i", body)[0])
                    return
                yield body[0], _parse(body[4:])


def _raise_unless_gone(number: int) -> None:
    if number not in (0, 2):
        raise OSError(number, os.strerror(number))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _parse(data: bytes) -> Attributes:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3:]
    return found


def _flow(family: int, attributes: Attributes) -> Flow:
    original, reply = (_parse(attributes[kind]) for kind in (TUPLE_ORIGINAL, TUPLE_REPLY))
    to, back = _parse(original[PROTO]), _parse(reply[PROTO])
    return Flow(
        protocol=to[1][0], vip=_address(original[IP], 2), port=int.from_bytes(to.get(3, b""), "big"),
        member=_address(reply[IP], 1), member_port=int.from_bytes(back.get(2, b""), "big"),
        mark=int.from_bytes(attributes.get(MARK, b""), "big"), original=attributes[TUPLE_ORIGINAL], family=family)


def _address(data: bytes, which: int) -> str:
    """The source (1) or destination (2) of a tuple; IPv6 ones are numbered two higher."""
    addresses = _parse(data)
    return str(ipaddress.ip_address(addresses.get(which) or addresses[which + 2]))


def _count(data: bytes) -> tuple[int, int]:
    parts = _parse(data)
    return int.from_bytes(parts[1], "big"), int.from_bytes(parts[2], "big")
