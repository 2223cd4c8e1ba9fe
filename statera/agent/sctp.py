# SPDX-License-Identifier: Apache-2.0
"""As much of SCTP (RFC 9260) as asking whether somebody listens takes, for kernels that speak none of it."""

import struct

from msgspec import Struct

INIT, INIT_ACK, ABORT = 1, 2, 6
HEADER = struct.Struct("!HHI")
WINDOW = 65_535


class Packet(Struct, frozen=True):
    """The first chunk of a packet. *tag* is the receiver's; *offered* is the sender's, in INIT and INIT_ACK."""

    source: int
    port: int
    tag: int
    chunk: int
    offered: int = 0


def packed(packet: Packet) -> bytes:
    head = HEADER.pack(packet.source, packet.port, packet.tag)
    body = b"" if packet.chunk == ABORT else struct.pack("!IIHHI", packet.offered, WINDOW, 1, 1, packet.offered)
    chunk = struct.pack("!BBH", packet.chunk, 0, 4 + len(body)) + body
    return head + struct.pack("<I", crc32c(head + b"\0\0\0\0" + chunk)) + chunk


def parsed(data: bytes) -> Packet | None:
    """The packet, without a look at its checksum: on a virtual link nobody fills it in. None for a fragment of one."""
    if len(data) < 16:
        return None
    source, port, tag = HEADER.unpack_from(data)
    offered = int.from_bytes(data[16:20], "big")
    return Packet(source, port, tag, data[12], offered if data[12] in (INIT, INIT_ACK) else 0)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
