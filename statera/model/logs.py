# SPDX-License-Identifier: Apache-2.0
"""Where logs can be sent: the notation of targets, read in one place for tenants and operators."""

import ipaddress
import re

from msgspec import Struct


class Target(Struct, frozen=True):
    """*kind* is tcp, udp or unix; *place* an address or, for unix, a path."""

    kind: str
    place: str
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.place}]" if ":" in self.place else self.place
        return self.place if self.kind == "unix" else f"{self.kind}://{host}:{self.port}"


def target_of(url: str) -> Target:
    """A tenant's `tcp://10.0.0.5:514` or `udp://[fd00::5]:514`. Raise `ValueError` that says what it should be."""
    found = re.fullmatch(r"(tcp|udp)://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", url)
    if found is None or not 0 < int(found[4]) < 65536:
        raise ValueError("must be like tcp://10.0.0.5:514 or udp://[2001:db8::5]:514")
    address = ipaddress.ip_address(found[2] or found[3])
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise ValueError(f"{address} is no address of a log server")
    return Target(found[1], str(address), int(found[4]))


def operators_target(text: str, protocol: str) -> Target:
    """An operator's `192.0.2.1:514` (to be reached by *protocol*), URL or path of a socket. Raise `ValueError`."""
    if text.startswith("/"):
        return Target("unix", text)
    if "://" in text:
        kind, _, text = text.partition("://")
        protocol = kind
    host, _, port = text.rpartition(":")
    address = ipaddress.ip_address(host.strip("[]"))
    if protocol.lower() not in ("tcp", "udp") or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("must be address:port by UDP or TCP, or a socket's path")
    return Target(protocol.lower(), str(address), int(port))
