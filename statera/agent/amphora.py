# SPDX-License-Identifier: Apache-2.0
"""One amphora on this node: a task that brings it to its newest spec, and again whenever something dies.

Creating, changing, repairing and restoring after a reboot are the same pass: namespace, filter, HAProxy,
keepalived, each made what the spec says. A spec that arrives during a pass waits; of several the newest wins.
"""

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from pyroute2.netlink.exceptions import NetlinkError

from statera import metrics, trace
from statera.agent import namespace, process
from statera.agent.apply import How, Plan, awake
from statera.agent.checks import Checks
from statera.agent.farewell import hand_over
from statera.agent.files import Home, read, write
from statera.agent.flows import Flows
from statera.agent.limits import Limits
from statera.agent.logs import Log, Office
from statera.agent.metrics import Metrics
from statera.agent.probe import Probe
from statera.agent.proxy import Proxy
from statera.agent.succession import Succession
from statera.agent.teardown import demolish
from statera.agent.vrrp import Vrrp
from statera.errors import DriverError, GiveUp, TryAgain
from statera.model.fleet import Role
from statera.render import nftables
from statera.render.haproxy import Machine
from statera.render.logs import Logs
from statera.wire import SPEC_VERSIONS, Address, Applied, Gone, Interface, Spec, Up

RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 0.1, 30.0
SWEEP_SECONDS = 0.5
FLAPPING_SECONDS = 60.0
DEATHS_UNPUNISHED, PENANCE_FIRST_SECONDS, PENANCE_MAX_SECONDS = 6, 0.5, 16.0
"""An HAProxy that died more often than so within a minute is started again later and later."""
DEAF_ROUNDS = 3
"""After so many reports without an answer another HAProxy takes over."""
PEER_LEAVES_SECONDS = 2.0
YIELD_SECONDS = 2.0
"""How long the peer is given to take over; it then keeps the addresses, and this side stands by again."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
_spec = msgspec.json.Decoder(Spec)


class Wiring(Struct, frozen=True):
    """What the namespace was made of."""

    interfaces: tuple[Interface, ...]
    vips: tuple[Address, ...]
    role: Role


class Amphora:
    """*netlink* is the one thread that enters namespaces; *gate* lets so many first passes run side by side."""

    def __init__(
        self, home: Home, emit: Callable[[Up], None], *, machine: Machine, command: str, netlink: Executor,
        gate: asyncio.Semaphore, office: Office,
    ) -> None:
        self.home = home
        self._emit = emit
        self._netlink = netlink
        self._gate = gate
        self._wake = asyncio.Event()
        self._proxy = Proxy(home, machine, command, died=self._on_death)
        self._flows = Flows(home, self._enter)
        self._checks = Checks(home, self._enter, changed=self._heed)
        self._metrics = Metrics(home, self._enter, self._flows)
        self._log = Log(home, self._enter, office, machine.logs or Logs())
        self._limits = Limits(home, machine, self._log)
        self._probe = Probe(home, self._proxy, self._flows, self._checks, emit, limits=self._limits)
        self._vrrp = Vrrp(home, died=self._wake.set)
        self._succession = Succession(home, self._enter, self._step_back)
        self._wanted: Spec | None = None
        self._stored: Spec | None = None
        self._wiring: Wiring | None = None
        self._bears = False
        self._alone_since: float | None = None
        self._faulty = ""
        self._to_say = False
        self._deaths: list[float] = []
        self._deaf = 0
        self._task: asyncio.Task[None] | None = None
        self.version = 0
        self.tried = asyncio.Event()

    def restore(self) -> None:
        """Take spec and counters from the disk. Raise `msgspec.DecodeError` for a spec that cannot be read."""
        stored = read(self.home.spec)
        self._wanted = self._stored = _spec.decode(stored) if stored else None
        self._probe.restore()
        self._flows.restore()
        self._checks.restore()

    def start(self) -> None:
        """Adopt what runs, repair what does not, and follow what is wanted, in a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"amphora {self.home.amphora_id}")

    def put(self, spec: Spec) -> None:
        """Want *spec* from now on, and say so when it runs; for one that is older, say what runs instead."""
        if self._wanted is None or spec.version >= self._wanted.version:
            if self._wanted and spec.version > self._wanted.version:
                self._deaths.clear()
            self._wanted = spec
        self._succession.forgive()
        self._to_say = True
        self._wake.set()

    async def stop(self) -> None:
        """Let go: what runs goes on running."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._checks.stop()
        await self._metrics.close()
        self._proxy.close()
        self._vrrp.close()
        self._succession.close()
        self._probe.save()
        self._flows.save()
        self._flows.close()
        self._log.close()

    async def remove(self) -> None:
        """Remove everything of it from the node and say `Gone`."""
        await self.stop()
        await hand_over(self.home)
        await asyncio.to_thread(demolish, self.home)
        self._emit(Gone(amphora_id=self.home.amphora_id))

    async def report(self) -> None:
        """Say what changed since the last time, if anything; what is not as it was left is mended behind."""
        is_heard = await self._probe.report(is_broken=bool(self._faulty))
        self._deaf = 0 if is_heard or not self._proxy.alive else self._deaf + 1
        is_unplugged = self._wiring and not namespace.is_plugged(self.home.amphora_id, self._wiring.interfaces)
        if is_unplugged:
            _log.warning("amphora %s: somebody took its network away", self.home.amphora_id)
            self._wiring = None
        if is_unplugged or self._deaf >= DEAF_ROUNDS:
            self._wake.set()

    async def full_report(self) -> None:
        """Say all there is, for a listener who knows nothing."""
        self._probe.forget_said()
        await self.report()

    async def _run(self) -> None:
        async with self._gate:
            if not await self._proxy.adopt():
                self._probe.bury_all()
            self.version = self._proxy.running.applied.version if self._proxy.running else 0
            delay = await self._pass(RETRY_FIRST_SECONDS)
        self.tried.set()
        backoff = RETRY_FIRST_SECONDS
        while True:
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            failed = await self._pass(backoff)
            backoff = min(backoff * 2, RETRY_MAX_SECONDS) if failed else RETRY_FIRST_SECONDS
            delay = failed or self._next_look()

    def _next_look(self) -> float | None:
        if self._proxy.is_draining:
            return SWEEP_SECONDS
        return YIELD_SECONDS if self._is_flapping() else None

    async def _pass(self, backoff: float) -> float | None:
        """Bring the amphora to its spec; None, or after how many seconds to try again."""
        wanted = self._wanted
        if wanted is None:
            return None
        started = time.monotonic()
        trace.follow(wanted.request_id if self._to_say else None)
        try:
            plan = await self._bring()
        except Exception as error:
            # Whatever went wrong, the next pass may mend it.
            if not isinstance(error, DriverError):
                _log.exception("amphora %s", self.home.amphora_id)
            await self._stand_back(wanted, str(error) or repr(error))
            return self._penance_seconds() or backoff * random.uniform(0.75, 1.25)
        self._faulty = ""
        self.version = plan.running.applied.version
        self._say(plan.how, time.monotonic() - started)
        return None

    async def _bring(self) -> Plan:
        self.home.make()
        spec = self._newest()
        if self._succession.is_over:
            await self._enter(functools.partial(namespace.silence, spec))
            raise GiveUp("SUPERSEDED", f"another one has taken the place of amphora {self.home.amphora_id}")
        if self._penance_seconds():
            raise TryAgain("HAPROXY_DIES", f"HAProxy dies again and again: {self._proxy.last_words()}".rstrip(": "))
        if self._deaf >= DEAF_ROUNDS:
            _log.warning("amphora %s: HAProxy does not answer and hands over to another", spec.amphora_id)
            self._deaf = 0
            self._proxy.distrust()
        plan = await self._planned(spec)
        if plan.how == "reload" and (seconds := self._proxy.breath_seconds()):
            await asyncio.sleep(seconds)
            # Meanwhile a newer one may have come.
            spec = self._newest()
            plan = await self._planned(spec)
        await self._store(spec)
        if self._stands_alone(spec):
            self._vrrp.leave()
        touched = [await self._plug(spec), await self._shield(spec)]
        self._checks.follow(spec)
        touched.append(await self._flows.follow(spec, self._checks.down))
        await self._log.follow(spec)
        if plan.how == "reload":
            await self._enter(functools.partial(namespace.claim, spec.amphora_id, self._proxy.new_doors(spec)))
            await self._probe.last_count()
        plan = await self._proxy.follow(plan)
        self._limits.follow(spec)
        await self._bear(spec)
        await self._proxy.heal(self._checks.words())
        await self._metrics.follow(spec)
        if spec.role is not Role.STANDALONE or not self._vrrp.alive:
            await self._vrrp.follow(spec)
        await self._succession.follow(spec)
        if spec.role is not Role.STANDALONE:
            self._vrrp.fault(is_faulty=self._is_flapping())
        return replace(plan, how="runtime") if plan.how == "nothing" and any(touched) else plan

    async def _planned(self, spec: Spec) -> Plan:
        """What to do; a spec that cannot be rendered keeps nobody from running what ran last."""
        try:
            return self._proxy.plan(spec)
        except DriverError:
            await self._proxy.revive()
            raise

    def _stands_alone(self, spec: Spec) -> bool:
        """Whether this one needs no keepalived; while its former peer leaves, that must not take over."""
        if spec.role is not Role.STANDALONE:
            self._alone_since = None
            return False
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
            asyncio.get_running_loop().call_later(PEER_LEAVES_SECONDS, self._wake.set)
        return not (spec.predecessors and self._vrrp.alive) or now - self._alone_since >= PEER_LEAVES_SECONDS

    def _newest(self) -> Spec:
        if self._wanted is None:
            raise TryAgain("SPEC_MISSING", f"amphora {self.home.amphora_id} has no spec yet")
        if self._wanted.spec_version > SPEC_VERSIONS[-1]:
            raise GiveUp("AGENT_OLD", f"this agent reads specs up to version {SPEC_VERSIONS[-1]}; upgrade it")
        return self._wanted

    async def _store(self, spec: Spec) -> None:
        """So that a reboot brings it back; only a spec that can be rendered takes the place of the last."""
        if spec is not self._stored:
            await asyncio.to_thread(write, self.home.spec, msgspec.json.encode(spec), durable=True)
            self._stored = spec

    async def _plug(self, spec: Spec) -> bool:
        wiring = Wiring(spec.interfaces, spec.vips, spec.role)
        if wiring == self._wiring and namespace.exists(spec.amphora_id):
            return False
        known, self._wiring = self._wiring, None
        self._bears = spec.role is Role.STANDALONE and self._proxy.alive
        if self._proxy.pid and await self._enter(functools.partial(namespace.mend, spec.amphora_id, self._proxy.pid)):
            _log.warning("amphora %s has its namespace again", spec.amphora_id)
        if not namespace.exists(spec.amphora_id):
            # Nothing of an earlier one holds; forgotten first, as whoever dies in between forgets nothing afterwards.
            self.home.filter.unlink(missing_ok=True)
            self._flows.forget()
            self._log.forget()
            await self._metrics.close()
            await self._proxy.end()
        await self._enter(functools.partial(namespace.ensure, spec, own_vips=self._bears))
        self._wiring = wiring
        return known is not None

    async def _bear(self, spec: Spec) -> None:
        """Answer for the VIPs now that somebody serves them: until now another amphora may have done that."""
        if spec.role is Role.STANDALONE and not self._bears:
            await self._enter(functools.partial(namespace.ensure, spec, own_vips=True))
            self._bears = True

    async def _shield(self, spec: Spec) -> bool:
        text = nftables.render(awake(spec)).encode()
        if text == (read(self.home.filter) or b""):
            return False
        await process.run(["nft", "-f", "-"], amphora_id=spec.amphora_id, stdin=text or nftables.CLEAR.encode())
        write(self.home.filter, text)
        return True

    async def _stand_back(self, spec: Spec, why: str) -> None:
        """After a failed pass: say why, and let the peer serve if this side cannot."""
        if why != self._faulty:
            _log.warning("amphora %s: %s", spec.amphora_id, why)
        self._faulty = why
        metrics.FAILURES.inc()
        self._emit(Applied(amphora_id=spec.amphora_id, version=spec.version, failure=why))
        if spec.role is not Role.STANDALONE:
            await self._yield_vips(spec)

    async def _yield_vips(self, spec: Spec) -> None:
        try:
            if not self._proxy.alive:
                self._vrrp.fault(is_faulty=True)
            if not self._vrrp.alive:
                await self._enter(functools.partial(namespace.drop_vips, spec))
        except (DriverError, OSError, NetlinkError) as error:
            _log.warning("amphora %s cannot give up its addresses: %s", spec.amphora_id, error)

    def _say(self, how: How, seconds: float) -> None:
        if how != "nothing":
            _log.info("amphora %s runs version %d by %s", self.home.amphora_id, self.version, how)
        if self._wanted and self._to_say and self.version == self._wanted.version:
            self._to_say = False
            metrics.APPLIED.labels(how).inc()
            metrics.APPLY_SECONDS.observe(seconds)
            self._emit(Applied(
                amphora_id=self.home.amphora_id, version=self.version, how=how, seconds=round(seconds, 4),
                haproxy_version=self._proxy.version))

    async def _step_back(self) -> None:
        """Another one serves: be neither seen nor heard until a health manager says what is to be done."""
        spec = self._stored
        if spec is None:
            return
        self._vrrp.leave()
        self._wiring = None
        try:
            await self._enter(functools.partial(namespace.silence, spec))
        except (OSError, NetlinkError) as error:
            _log.warning("amphora %s cannot step back yet: %s", self.home.amphora_id, error)
        self._wake.set()

    async def _heed(self) -> None:
        """A check changed its mind; what cannot be done now, the next pass does."""
        try:
            await self._flows.avoid(self._checks.down)
            await self._proxy.heal(self._checks.words())
        except (DriverError, OSError) as error:
            _log.warning("amphora %s: %s", self.home.amphora_id, error)
            self._wake.set()

    def _on_death(self) -> None:
        _log.warning("amphora %s: HAProxy died", self.home.amphora_id)
        metrics.DEATHS.inc()
        self._deaths.append(time.monotonic())
        if self._vrrp.alive:
            # The peer is there sooner than another HAProxy here.
            self._vrrp.fault(is_faulty=True)
        self._wake.set()

    def _is_flapping(self) -> bool:
        """Died just now and before within a minute: the peer shall serve. Any longer and two that flap both refuse."""
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if at > now - FLAPPING_SECONDS]
        return len(self._deaths) > 1 and self._deaths[-1] > now - YIELD_SECONDS

    def _penance_seconds(self) -> float:
        """For how long an HAProxy that died often is not to be started yet."""
        self._is_flapping()
        often = len(self._deaths) - DEATHS_UNPUNISHED
        if self._proxy.alive or often <= 0:
            return 0.0
        pause = min(PENANCE_FIRST_SECONDS * 2.0 ** (often - 1), PENANCE_MAX_SECONDS)
        return max(0.0, self._deaths[-1] + pause - time.monotonic())

    async def _enter(self, act: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._netlink, act)
