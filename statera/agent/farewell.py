# SPDX-License-Identifier: Apache-2.0
"""How the active one of a pair goes: it takes no new connections, answers what was asked, and lets its peer serve."""

import asyncio
import signal
from ipaddress import ip_address

import msgspec

from statera.agent import namespace, process
from statera.agent.files import Home, read
from statera.errors import DriverError
from statera.model.fleet import Role
from statera.wire import Spec

LONGEST_SECONDS = 0.8
"""Clients whose first packet is dropped try again after a second: by then the peer serves."""
LOOK_SECONDS = 0.005

DOORS = """\
table inet farewell {{
    chain input {{
        type filter hook input priority -10; policy accept;
{rules}
    }}
}}
"""

_spec = msgspec.json.Decoder(Spec)


async def hand_over(home: Home) -> None:
    """Return when nothing is under way any more, or after a moment; then keepalived has let the VIP go.

    Does nothing for an amphora that does not bear the VIP, or that stands alone. Nothing is lost by a failure
    but requests.
    """
    stored = read(home.spec)
    spec = _spec.decode(stored) if stored else None
    keepalived = process.find(home.keepalived_pid, str(home.keepalived_conf))
    if spec is None or spec.role is Role.STANDALONE or keepalived is None or not spec.vips:
        return
    if not namespace.bears(keepalived, spec.vips[0].ip):
        return
    try:
        await process.run(["nft", "-f", "-"], amphora_id=spec.amphora_id, stdin=rules(spec).encode())
        await _finish(home)
    except DriverError:
        pass  # it goes all the same
    process.send(keepalived, signal.SIGTERM)
    for _ in range(20):
        if not namespace.bears(keepalived, spec.vips[0].ip):
            return
        await asyncio.sleep(LOOK_SECONDS)


def rules(spec: Spec) -> str:
    """Drop the first packets of new connections to the VIPs."""
    vips = [ip_address(vip.ip) for vip in spec.vips]
    words = {4: "ip", 6: "ip6"}
    lines = [f"        {words[vip.version]} daddr {vip} tcp flags & (syn | ack) == syn drop" for vip in vips]
    return DOORS.format(rules="\n".join(lines))


async def _finish(home: Home) -> None:
    """Have HAProxy end what it has begun, kept connections after their answer."""
    master = process.find(home.haproxy_pid, str(home.haproxy_cfg))
    if master is None:
        return
    process.send(master, signal.SIGUSR1)
    until = asyncio.get_running_loop().time() + LONGEST_SECONDS
    while process.runs(master, str(home.haproxy_cfg)) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(LOOK_SECONDS)
