# SPDX-License-Identifier: Apache-2.0
"""Members for the amphora tests: HTTP on port 80 says who was asked and how, TCP and UDP on port 90 echo.

SCTP on port 90 accepts, elsewhere refuses: by hand, as most kernels at hand speak none.
"""

import asyncio
import json
import socket
import struct
import sys

from statera.agent import sctp


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who = writer.get_extra_info("sockname")[0]
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            request, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if ": " in line)
            body = json.dumps({"who": who, "request": request, "headers": headers}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                + f"Set-Cookie: APP={who}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who = writer.get_extra_info("sockname")[0]
    try:
        while line := await reader.readline():
            writer.write(f"{who} ".encode() + line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


PACKET_INFO = {
    socket.AF_INET: (socket.IPPROTO_IP, 8, 8, "=I4x4s"),  # IP_PKTINFO, which Python 3.11 does not name
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, "=16sI"),
}


def echo_datagrams(family: socket.AddressFamily) -> None:
    """Answer from the very address that was asked, of which one socket has many."""
    level, option, kind, form = PACKET_INFO[family]
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setsockopt(level, option, 1)
    if family == socket.AF_INET6:
        server.setsockopt(level, socket.IPV6_V6ONLY, 1)
    server.bind(("", 90))

    def answer() -> None:
        data, [(_, _, info)], _, client = server.recvmsg(2048, 256)
        packed = next(one for one in struct.unpack(form, info[:struct.calcsize(form)]) if isinstance(one, bytes))
        who = socket.inet_ntop(family, packed)
        reply = struct.pack("=I4s4x", 0, packed) if family == socket.AF_INET else info
        server.sendmsg([f"{who} ".encode() + data], [(level, kind, reply)], 0, client)

    asyncio.get_running_loop().add_reader(server, answer)


def accept_associations() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)

    def answer() -> None:
        data, client = server.recvfrom(2048)
        packet, address = sctp.parsed(data[(data[0] & 15) * 4:]), data[16:20]
        if packet and packet.chunk == sctp.INIT:
            chunk = sctp.INIT_ACK if packet.port == 90 else sctp.ABORT
            reply = sctp.packed(sctp.Packet(packet.port, packet.source, packet.offered, chunk, address[3]))
            server.sendmsg([reply], [(socket.IPPROTO_IP, 8, struct.pack("=I4s4x", 0, address))], 0, client)

    asyncio.get_running_loop().add_reader(server, answer)


async def main() -> None:
    accept_associations()
    for family in PACKET_INFO:
        echo_datagrams(family)
    await asyncio.start_server(http, None, 80, backlog=4096)
    await asyncio.start_server(echo, None, 90, backlog=4096)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
