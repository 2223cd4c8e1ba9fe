# SPDX-License-Identifier: Apache-2.0
"""Members that speak TLS on port 443 and say how: version, ALPN, host, cipher, the client's certificate."""

import asyncio
import json
import ssl
import sys

HOSTS: dict[ssl.SSLObject, str] = {}


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    who, made = writer.get_extra_info("sockname")[0], writer.get_extra_info("ssl_object")
    peer = writer.get_extra_info("peercert") or {}
    client = next((value for ((name, value),) in peer.get("subject", ()) if name == "commonName"), None)
    tls = {"version": made.version(), "alpn": made.selected_alpn_protocol(), "client": client,
           "host": HOSTS.pop(made, None), "cipher": made.cipher()[0]}
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = json.dumps({"who": who, "tls": json.dumps(tls)}).encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            if b"connection: close" in head.lower():
                return
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


def remember(made: ssl.SSLObject, host: str | None, _context: ssl.SSLContext) -> None:
    HOSTS[made] = host


async def main(bundle: str, clients: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(bundle)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = remember
    await asyncio.start_server(http, None, 443, ssl=context)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
