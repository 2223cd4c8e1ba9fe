# SPDX-License-Identifier: Apache-2.0
"""Members for the amphora tests: HTTP on port 80 says who was asked and how, TCP and UDP on port 90 echo.

Port 70 says all that it heard, as hexadecimal digits. On port 80 `X-Wait` is how many seconds to think first,
`/become/503,200` what to answer to checks of `/health` from now on, the last for ever, `/checks` how they asked since.
SCTP on port 90 accepts, elsewhere refuses: by hand, as most kernels at hand speak none.
"""

import asyncio
import json
import re
import socket
import struct
import sys
from collections import defaultdict

from statera.agent import sctp

HEALTH: defaultdict[str, list[str]] = defaultdict(lambda: ["200"])
"""What each address answers to checks; the first is next, the last stays."""
CHECKS: defaultdict[str, list[str]] = defaultdict(list)


def answer(who: str, peer: str, head: str) -> tuple[str, dict[str, object]]:
    """The status and what to say."""
    request, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    path = request.split(" ")[1]
    if path.startswith("/become/"):
        HEALTH[who], CHECKS[who] = path.removeprefix("/become/").split(","), []
    if path == "/checks":
        return "200", {"checks": CHECKS[who]}
    if not path.startswith("/health"):
        return "200", {"who": who, "from": peer, "request": request, "headers": headers}
    CHECKS[who].append(head)
    return HEALTH[who].pop(0) if len(HEALTH[who]) > 1 else HEALTH[who][0], {}


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who = writer.get_extra_info("sockname")[0]
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            status, said = answer(who, writer.get_extra_info("peername")[0], head)
            await asyncio.sleep(float((re.findall(r"x-wait: ([\d.]+)", head.lower()) or ["0"])[0]))
            body = b"" if head.startswith("HEAD") else json.dumps(said).encode()
            writer.write(
                f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n"
                f"Set-Cookie: APP={who}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            if "connection: close" in head.lower():
                return
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


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything up to the end of a request, or of a line without one."""
    heard = b""
    try:
        while not heard.endswith((b"\r\n\r\n", b"end\n")) and (data := await reader.read(65536)):
            heard += data
        body = json.dumps({"heard": heard.hex()}).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
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
    await asyncio.start_server(tell, None, 70)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
