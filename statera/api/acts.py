# SPDX-License-Identifier: Apache-2.0
"""What every request has at hand, and the one transaction in which a write decides and happens."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field
from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import IntegrityError, OperationalError

from statera.api import capabilities
from statera.api.choice import flavor_of
from statera.api.identity import Identity
from statera.api.policy import Policy
from statera.api.rules.certificates import references
from statera.config import Settings
from statera.drivers.protocols import Network, Secrets
from statera.drivers.provider.registry import Drivers
from statera.errors import ImmutableObject, NotFound, PendingState, QuotaMet, Unavailable
from statera.model import pem
from statera.model.pem import Material
from statera.model.providers import is_ours
from statera.model.status import Provisioning
from statera.store import events, status, tables, wishes
from statera.store import secrets as kept
from statera.store.engine import Store
from statera.store.events import Event
from statera.store.lists import Row
from statera.store.secrets import Sealer

LOG = logging.getLogger(__name__)
PROJECT_BUSY = "Project busy.  Unable to lock the project.  Please try again."
DISK_FULL = "The disk of the database is full: nothing has been changed. Try again when there is room."

Materials = Mapping[str, Material | None]
QUOTA_TITLES = {
    "load_balancer": "Load Balancer", "listener": "Listener", "pool": "Pool", "member": "Member",
    "health_monitor": "Health Monitor", "l7policy": "L7 Policy", "l7rule": "L7 Rule",
}


class Service(Struct, frozen=True):
    """What the process was built with."""

    settings: Settings
    store: Store
    network: Network
    policy: Policy
    secrets: Secrets | None = None
    sealer: Sealer | None = None
    drivers: Drivers = field(default_factory=Drivers)

    @property
    def strict(self) -> bool:
        return self.settings.api_settings.strict_immutability

    @property
    def has_quotas(self) -> bool:
        return self.settings.api_settings.auth_strategy != "noauth"

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction; one that lost against another of the same project asks to try again."""
        try:
            with self.store.write() as connection:
                yield connection
        except (IntegrityError, OperationalError) as error:
            full = "disk is full" in str(error.orig)
            raise Unavailable(DISK_FULL if full else PROJECT_BUSY) from error

    @contextmanager
    def act(
        self, identity: Identity, load_balancer_id: str, *, doing: str, secrets: Materials | None = None
    ) -> Iterator["Act"]:
        """Lock a load balancer and change it; *doing* (`listener post`) is told in the event."""
        with self.writing() as connection:
            row = wishes.hold(connection, load_balancer_id)
            if row is None:
                raise NotFound("Load Balancer", load_balancer_id)
            yield Act(self, identity, connection, row, doing, secrets=secrets)

    def materials(self, identity: Identity, body: object) -> Materials:
        """What the references in *body* refer to; asks outside, so it comes before any transaction."""
        return {ref: self._material(identity, ref) for ref in dict.fromkeys(references(body))}

    def _material(self, identity: Identity, ref: str) -> Material | None:
        payload = self.secrets.fetch(ref, identity.caller) if self.secrets else None
        return None if payload is None else pem.read(payload, now=datetime.now(UTC))

    def check_quota(
        self, connection: Connection, project_id: str, kind: str, *, more: int = 1, hold: bool = True
    ) -> None:
        """Raise `QuotaMet` when *more* objects would exceed the project's limit.

        Creations of one project then take turns (*hold*), unless this is only a first look.
        """
        if not self.has_quotas or more <= 0:
            return
        limit = wishes.quota_limit(connection, project_id, kind, hold=hold)
        if limit is None:
            limit = getattr(self.settings.quotas, f"default_{kind}_quota")
        if limit >= 0 and wishes.quota_use(connection, project_id, kind) + more > limit:
            raise QuotaMet(QUOTA_TITLES[kind])


class Act:
    """One wish about one load balancer, which is locked. `version` raises the version on first use."""

    def __init__(
        self, service: Service, identity: Identity, connection: Connection, load_balancer: Row, doing: str,
        version: int | None = None, *, secrets: Materials | None = None,
    ) -> None:
        self.service, self.identity, self.connection = service, identity, connection
        self.load_balancer, self.doing, self.secrets = load_balancer, doing, secrets or {}
        self._version, self._is_new = version, version is not None

    @property
    def lb_id(self) -> str:
        return str(self.load_balancer["id"])

    @property
    def project_id(self) -> str:
        return str(self.load_balancer["project_id"])

    @property
    def settings(self) -> Settings:
        return self.service.settings

    @property
    def strict(self) -> bool:
        """Whether one wish waits for the one before it; drivers of other providers are made for nothing else."""
        return self.service.strict or self._is_delegated

    @property
    def _is_delegated(self) -> bool:
        return not is_ours(self.load_balancer["provider"])

    def flavor(self) -> Mapping[str, Any]:
        """The data of the load balancer's flavor."""
        return flavor_of(self.connection, self.load_balancer["flavor_id"])

    def quota(self, kind: str, *, more: int = 1) -> None:
        self.service.check_quota(self.connection, self.project_id, kind, more=more)

    def require_served(self, kind: str, values: Mapping[str, Any]) -> None:
        """The provider can serve such an object. Raise `ProviderUnsupported`."""
        capabilities.require(self.load_balancer["provider"], kind, values, in_tree=self._is_new)

    def require_lb(self) -> None:
        """A child may change: strictly, only while the load balancer is ACTIVE; else unless it is going."""
        self._require("Load Balancer", self.lb_id, self.load_balancer)

    def require_parent(self, title: str, table: Table, id: str) -> Row:
        """The parent's row; it must be ACTIVE (strictly) or not be going."""
        row = self.reload(table, id, title=title)
        self._require(title, id, row)
        return row

    def require_lb_state(self, *allowed: str) -> None:
        """For what is done to the load balancer itself; not strictly, anything but going and gone will do."""
        state = self.load_balancer["provisioning_status"]
        gone = self.load_balancer["deleting"] or state == Provisioning.DELETED
        if self._is_delegated and state == Provisioning.ERROR:
            gone = False  # its driver failed to delete it, and is to be asked again
        if gone or (self.strict and state not in allowed):
            raise PendingState(Provisioning.PENDING_DELETE if gone and state != "DELETED" else state, self.lb_id)

    def require_kept(self, title: str, row: Row) -> None:
        """The object is not being deleted. Raise `ImmutableObject`."""
        if row["deleting"]:
            raise ImmutableObject(title, row["id"])

    def _require(self, title: str, id: str, row: Row) -> None:
        active = row["provisioning_status"] == Provisioning.ACTIVE
        gone = row["deleting"] or row["provisioning_status"] == Provisioning.DELETED
        if gone or (self.strict and not active):
            raise ImmutableObject(title, id)

    def reload(self, table: Table, id: str, *, title: str) -> Row:
        """The row as it is under the lock, with its `provisioning_status`; `NotFound` when it is gone."""
        row = self._rows(table, table.c.id == id)
        if not row:
            raise NotFound(title, id)
        return row[0]

    def rows(self, table: Table, *where: Any) -> Sequence[Row]:
        """Rows of this load balancer's tree; not strictly, those that are going do not count."""
        if not self.strict:
            where = (*where, ~table.c.deleting)
        return self._rows(table, table.c.load_balancer_id == self.lb_id, *where)

    def _rows(self, table: Table, *where: Any) -> Sequence[Row]:
        lb, shown = tables.load_balancers, status.provisioning_status(table).label("provisioning_status")
        statement = select(table, shown).join(lb, lb.c.id == table.c.load_balancer_id).where(*where)
        found = self.connection.execute(statement.order_by(table.c.created_at, table.c.id)).mappings()
        return [dict(row) for row in found]

    def keep_secrets(self, body: object) -> None:
        """Seal what the references in *body* refer to, beside the wish; what nothing names any more goes."""
        for ref in set(references(body)) if self.service.sealer else ():
            material = self.secrets.get(ref)
            if material and self.service.sealer:
                kept.keep(self.connection, self.lb_id, ref, kept.sealed(material, self.service.sealer))
        self.forget_secrets()

    def forget_secrets(self) -> None:
        """Remove the sealed content of references that nothing of the load balancer names any more."""
        if self.service.sealer:
            kept.forget_unused(self.connection, self.lb_id)

    def version(self, *, infra: bool = False) -> int:
        """The version of this wish."""
        if self._version is None:
            self._version = wishes.touch(
                self.connection, self.lb_id, infra=infra, request_id=self.identity.request_id)
            self.tell()
        return self._version

    def tell(self) -> None:
        """Write down that the wish was accepted, with the id of its request."""
        LOG.info("load balancer %s: %s is accepted", self.lb_id, self.doing)
        events.record(self.connection, Event(
            load_balancer_id=self.lb_id, reason="accepted", message=self.doing, request_id=self.identity.request_id
        ))
