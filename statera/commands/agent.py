# SPDX-License-Identifier: Apache-2.0
"""statera-agent: `run` carries amphorae on this host, `join` makes it a node first."""

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from oslo_config import cfg

from statera import metrics
from statera.agent.host import Host
from statera.agent.identity import Identity
from statera.agent.joining import join
from statera.agent.link import Link
from statera.agent.outbox import Outbox
from statera.commands import start
from statera.commands.loop import until_stopped
from statera.config import Settings
from statera.errors import SetupError

LOG = logging.getLogger(__name__)

JOIN_OPTIONS = (
    cfg.StrOpt("token", help="What `statera node token` printed."),
    cfg.StrOpt("endpoint", help="A health manager, host:port; the first of [agent] endpoints when not given."),
    cfg.StrOpt("ca-fingerprint", help="SHA-256 of the health manager's root, as `statera node token` printed it."),
    cfg.StrOpt("name", help="Name of this node; [agent] node_name or the host name when not given."),
)


def main() -> None:
    """`statera-agent [run|join] [options]`; run when nothing is said."""
    name, args = _split(sys.argv[1:])
    if name not in COMMANDS:
        sys.exit(f"statera-agent: {name} is not one of {', '.join(COMMANDS)}")
    start.run("statera-agent", COMMANDS[name], args, options=JOIN_OPTIONS if name == "join" else ())


def run(settings: Settings, _conf: cfg.ConfigOpts) -> None:
    """Carry what health managers say until SIGTERM or SIGINT; HAProxy and keepalived go on after that."""
    asyncio.run(_run(settings))


def join_here(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Make this host a node and say how to go on."""
    if not conf.token or not conf.ca_fingerprint:
        raise SetupError("join needs --token and --ca-fingerprint; `statera node token` prints both")
    node_id = asyncio.run(join(
        identity(settings), endpoint=conf.endpoint or settings.agent.endpoints[0], token=conf.token,
        fingerprint=conf.ca_fingerprint, name=conf.name or settings.agent.node_name or settings.host))
    sys.stdout.write(f"this host is node {node_id} now; start `statera-agent run`\n")


def identity(settings: Settings) -> Identity:
    return Identity(settings.state / "agent")


async def _accept_invitation(settings: Settings, own: Identity) -> None:
    """Join at the first endpoint that takes us. Raise `SetupError` with what the last one says."""
    refusal = SetupError("[agent] endpoints names no health manager")
    for endpoint in settings.agent.endpoints:
        try:
            await join(own, endpoint=endpoint, token=settings.agent.join_token,
                       fingerprint=settings.agent.ca_fingerprint, name=settings.agent.node_name or settings.host)
            return
        except SetupError as error:
            refusal = error
    raise refusal


async def _run(settings: Settings) -> None:
    own = identity(settings)
    if settings.agent.join_token and not own.exists:
        await _accept_invitation(settings, own)
    own.tls_context()  # say at once what is missing
    metrics.serve(settings.metrics, "agent")
    metrics.NODE_CERTIFICATE.set_function(lambda: (own.expires_at - datetime.now(UTC)) / timedelta(days=1))
    outbox = Outbox()
    host = Host(settings, settings.state, outbox.put)
    await host.start()
    try:
        await until_stopped(Link(settings, own, host, outbox).run())
    finally:
        await host.stop()


def _split(args: list[str]) -> tuple[str, list[str]]:
    """The command's name, wherever it stands first, and its options."""
    if args and not args[0].startswith("-"):
        return args[0], args[1:]
    return "run", args


COMMANDS: Mapping[str, Callable[[Settings, cfg.ConfigOpts], None]] = {"run": run, "join": join_here}
