# SPDX-License-Identifier: Apache-2.0
"""Tell the neighbours who has an address now, so that they forget who had it before."""

import fcntl
import ipaddress
import socket
import struct

SIOCGIFHWADDR = 0x8927
ARP = 0x0806


def announce(interface: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Send one gratuitous ARP request, or one unsolicited neighbour advertisement; the address must be up."""
    if ip.version == 4:
        _request(interface, ip.packed)
    else:
        _advertise(interface, str(ip), ip.packed)


def _request(interface: str, packed: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as raw:
        raw.bind((interface, ARP))
        mac = raw.getsockname()[4]
        ethernet = b"\xff" * 6 + mac + struct.pack("!H", ARP)
        raw.send(ethernet + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + packed + b"\0" * 6 + packed)


def _advertise(interface: str, address: str, packed: bytes) -> None:
    """RFC 4861, 7.2.6: type 136 with the override flag and our link-layer address, to all nodes; hop limit 255."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        index = socket.if_nametoindex(interface)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        raw.bind((address, 0, 0, index))
        mac = fcntl.ioctl(raw, SIOCGIFHWADDR, struct.pack("256s", interface.encode()))[18:24]
        raw.sendto(struct.pack("!BBHI", 136, 0, 0, 0x20000000) + packed + b"\x02\x01" + mac, ("ff02::1", 0, 0, index))
