# SPDX-License-Identifier: Apache-2.0
"""Looks whether secrets that load balancers use hold something else by now, and rolls that out."""

from datetime import UTC, datetime

from oslo_log import log

from statera.drivers.protocols import Caller, Secrets
from statera.errors import DriverError
from statera.model import pem
from statera.model.pem import Material
from statera.store import secrets as kept
from statera.store.engine import Store
from statera.store.events import Event, is_told, record
from statera.store.secrets import Sealer, Used
from statera.store.sweep import MARK

LOG = log.getLogger(__name__)

AT_ONCE = 100
START = ("", "")

Place = tuple[str, str]


class Renewals:
    """Of any number of these looks any number may run at once, on one host or several."""

    def __init__(self, store: Store, secrets: Secrets, sealer: Sealer) -> None:
        self.store = store
        self.secrets = secrets
        self.sealer = sealer

    def look(self, after: Place = START) -> Place:
        """Look at the next few references; returns where to go on, which is the start after the last one.

        One that cannot be had now is left as it is.
        """
        with self.store.read() as connection:
            found = kept.in_use(connection, after, limit=AT_ONCE)
        for used in found:
            try:
                self.follow(used)
            except DriverError as error:
                LOG.warning("housekeeping: cannot look at the secret %s: %s", used.ref, error)
        return found[-1].place if len(found) == AT_ONCE else START

    def follow(self, used: Used) -> None:
        """Take up what the reference holds now; what is of no use is told once, and changes nothing."""
        payload = self.secrets.fetch(used.ref, Caller(project_id=used.project_id))
        if payload is None:
            return
        now = datetime.now(UTC)
        material = pem.read(payload, now=now)
        digest = pem.digest(payload.decode(errors="replace") if material.problem else material.pem())
        if digest == used.digest:
            return
        fault = pem.renewal_fault(pem.read(self.sealer.open(used.sealed), now=now), material)
        if fault:
            self.refuse(used, digest, fault)
        else:
            self.take_up(used, material)

    def take_up(self, used: Used, material: Material) -> None:
        fresh = kept.sealed(material, self.sealer)
        until = f", which runs out on {material.expires_at:%Y-%m-%d %H:%M} UTC" if material.expires_at else ""
        with self.store.write() as connection:
            if kept.renew(connection, used, fresh):
                LOG.info("housekeeping: load balancer %s gets the new content of %s", *used.place)
                record(connection, Event(
                    load_balancer_id=used.load_balancer_id, reason="secret_renewed", object_type="certificate",
                    object_id=fresh.digest[:MARK], message=f"{used.ref} holds something new{until}: it is rolled out"))

    def refuse(self, used: Used, digest: str, fault: str) -> None:
        with self.store.write() as connection:
            if not is_told(connection, used.load_balancer_id, "secret_refused", digest[:MARK]):
                record(connection, Event(
                    load_balancer_id=used.load_balancer_id, reason="secret_refused", object_type="certificate",
                    object_id=digest[:MARK], fault="user",
                    message=f"what {used.ref} holds now cannot be used, so the former content stays: {fault}"))
