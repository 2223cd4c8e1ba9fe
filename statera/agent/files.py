# SPDX-License-Identifier: Apache-2.0
"""Where an amphora's files lie: what must outlive a reboot below the state folder, sockets and pids below /run."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from statera.errors import GiveUp
from statera.render import l7, tls

RUN = Path("/run/statera")

_log = logging.getLogger(__name__)


class Home:
    """The paths of one amphora. /run, because a socket's path must stay below 108 bytes."""

    def __init__(self, state: Path, amphora_id: str) -> None:
        if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", amphora_id):
            raise GiveUp("SPEC_REFUSED", f"{amphora_id!r} is not an amphora's id")
        self.amphora_id = amphora_id
        self.folder = state / "amphorae" / amphora_id
        self.spec = self.folder / "spec.json"
        self.running = self.folder / "running.json"
        self.counters = self.folder / "counters.json"
        self.haproxy_cfg = self.folder / "haproxy.cfg"
        self.candidate_cfg = self.folder / "haproxy.cfg.candidate"
        self.l7 = self.folder / l7.FOLDER
        self.keepalived_conf = self.folder / "keepalived.conf"
        self.superseded = self.folder / "superseded"
        self.filter = self.folder / "filter.nft"
        self.flows = self.folder / "flows.nft"
        self.flow_counters = self.folder / "flow_counters.json"
        self.logs = self.folder / "logs"
        self.down = self.folder / "down.json"
        self.run = RUN / amphora_id
        self.chroot = self.run / "empty"
        self.tls = self.run / tls.FOLDER
        self.socket = self.run / "haproxy.sock"
        self.master_socket = self.run / "master.sock"
        self.haproxy_pid = self.run / "haproxy.pid"
        self.haproxy_said = self.run / "haproxy.said"
        self.keepalived_pid = self.run / "keepalived.pid"
        self.vrrp_pid = self.run / "vrrp.pid"
        self.fault = self.run / "fault"

    def make(self) -> None:
        """Make the folders, for root alone; repeating is harmless. HAProxy's workers are locked into an empty one."""
        for folder in (self.folder, self.l7, self.run, self.tls, self.chroot):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def homes(state: Path) -> Iterator[Home]:
    """Every amphora that this state folder knows."""
    for folder in sorted((state / "amphorae").glob("*")):
        yield Home(state, folder.name)


def networks_file(state: Path) -> Path:
    return state / "networks.json"


def overlay_file(state: Path) -> Path:
    return state / "overlay.json"


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace the file in one step; a reader sees the old or the new one. *durable*: also after a power cut."""
    fresh = path.with_name(path.name + ".new")
    try:
        with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        # Half a file must not fill a full disk even more.
        fresh.unlink(missing_ok=True)
        raise


def keep(path: Path, data: bytes) -> None:
    """`write` what a later agent can do without: a full disk is only told."""
    try:
        write(path, data)
    except OSError as error:
        _log.warning("%s is not kept: %s", path, error)


def read(path: Path) -> bytes | None:
    """The file's bytes, None when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Have these files in the folder and no others; repeating is harmless."""
    for name, text in files.items():
        if read(folder / name) != text.encode():
            write(folder / name, text.encode())
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
