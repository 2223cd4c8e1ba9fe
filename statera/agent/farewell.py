# SPDX-License-Identifier: Apache-2.0
"""How an amphora that serves goes: it takes no new connections, answers what was asked, and lets another one serve."""

import asyncio
import logging
import signal
from ipaddress import ip_address

import msgspec
from pyroute2.netlink.exceptions import NetlinkError

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

_log = logging.getLogger(__name__)
_spec = msgspec.json.Decoder(Spec)


async def hand_over(home: Home) -> None:
    """Return when nothing is under way any more, or after a moment; then the VIPs are let go.

    Does nothing for an amphora that does not bear them. Nothing is lost by a failure but requests.
    """
    stored = read(home.spec)
    spec = _spec.decode(stored) if stored else None
    if spec is None or not spec.vips or not namespace.exists(home.amphora_id):
        return
    running = [process.find(home.haproxy_pid, str(home.haproxy_cfg)),
               process.find(home.keepalived_pid, str(home.keepalived_conf))]
    inside = next((pid for pid in running if pid), None)
    if inside is None or not namespace.bears(inside, spec.vips[0].ip):
        if running[1]:  # it must not take over now
            await asyncio.to_thread(process.end, [running[1]], patience_seconds=0.0)
        return
    try:
        await process.run(["nft", "-f", "-"], amphora_id=spec.amphora_id, stdin=rules(spec).encode())
        await _finish(home)
        await _let_go(spec, running[1])
    except (DriverError, OSError, NetlinkError) as error:
        _log.info("amphora %s goes without handing over: %s", spec.amphora_id, error)


async def _let_go(spec: Spec, keepalived: int | None) -> None:
    if spec.role is Role.STANDALONE or keepalived is None:
        await asyncio.to_thread(namespace.drop_vips, spec)
        return
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
