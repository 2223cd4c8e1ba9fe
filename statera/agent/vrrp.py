# SPDX-License-Identifier: Apache-2.0
"""The keepalived of one amphora of a pair: it decides who bears the VIPs."""

import signal
from collections.abc import Callable

from statera.agent import cgroup, process
from statera.agent.files import Home, read, write
from statera.render import keepalived
from statera.wire import Spec


class Vrrp:
    """Not for two tasks at once: the amphora's own task calls it."""

    def __init__(self, home: Home, died: Callable[[], None]) -> None:
        self._home = home
        self._died = died
        self._watch: process.Watch | None = None

    @property
    def alive(self) -> bool:
        return self._watch is not None and self._watch.alive

    async def follow(self, spec: Spec) -> None:
        """Let keepalived run with what *spec* says; an amphora that stands alone has none."""
        vrrp = keepalived.vrrp_of(spec)
        if vrrp is None:
            self.end()
            return
        text = keepalived.render(spec, vrrp, fault_file=str(self._home.fault)).encode()
        changed = read(self._home.keepalived_conf) != text
        if changed:
            write(self._home.keepalived_conf, text)
        pid = self._find()
        if pid is None:
            pid = await self._start()
        elif changed:
            process.send(pid, signal.SIGHUP)
        self._guard(pid)

    def end(self) -> None:
        """Have no keepalived; repeating is harmless."""
        self.close()
        if (pid := self._find()) is not None:
            process.end([pid])

    def leave(self) -> None:
        """Have no keepalived, but keep the VIPs that are here: this side goes on alone. Repeating is harmless."""
        self.close()
        for pid in (self._find(), process.find(self._home.vrrp_pid, str(self._home.keepalived_conf))):
            if pid is not None:
                process.send(pid, signal.SIGKILL)

    def fault(self, is_faulty: bool) -> None:
        """Tell keepalived whether this side can serve; if not the peer takes over."""
        text = b"1\n" if is_faulty else b"0\n"
        if read(self._home.fault) != text:
            write(self._home.fault, text)

    def close(self) -> None:
        """Stop watching; keepalived runs on."""
        if self._watch:
            self._watch.close()

    def _find(self) -> int | None:
        return process.find(self._home.keepalived_pid, str(self._home.keepalived_conf))

    async def _start(self) -> int:
        # A child whose parent was killed keeps the VIPs.
        orphan = process.find(self._home.vrrp_pid, str(self._home.keepalived_conf))
        process.end([orphan] if orphan else [])
        if not self._home.fault.exists():
            self.fault(is_faulty=False)
        home = self._home
        home.vrrp_pid.unlink(missing_ok=True)
        pid = await process.daemon(
            ["keepalived", "--vrrp", "--use-file", str(home.keepalived_conf), "--pid", str(home.keepalived_pid),
             "--vrrp_pid", str(home.vrrp_pid)],
            home.keepalived_pid, str(home.keepalived_conf), amphora_id=home.amphora_id)
        cgroup.adopt(self._home.amphora_id, [pid, *process.children(pid)])
        return pid

    def _guard(self, pid: int) -> None:
        if not self.alive:
            self._watch = process.Watch(pid, self._died)
