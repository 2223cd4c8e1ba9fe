# SPDX-License-Identifier: Apache-2.0
"""What is told about a load balancer as a whole: the status tree and the statistics; and its failover."""

from collections.abc import Callable, Mapping
from typing import Any

import falcon
from sqlalchemy import Connection

from statera.api import capabilities, delegate, requests
from statera.api.acts import Service
from statera.api.handlers import Child, found, place_of, respond, respond_nothing
from statera.api.identity import identify
from statera.api.resources import healthmonitors, listeners, loadbalancers, members, pools
from statera.store import statistics, tables
from statera.store.lists import View, read_all, read_one

Document = dict[str, Any]
BOTH = ("operating_status", "provisioning_status")


class Look:
    """GET of something that is derived from one object."""

    def __init__(
        self, service: Service, child: Child, action: str, read: Callable[[Connection, str], Document]
    ) -> None:
        self.service, self.kind, self.action, self.read = service, child.kind, action, read

    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        with self.service.store.read() as connection:
            row = found(connection, self.kind.table, id, title=self.kind.title)
        action = f"{self.kind.policy}:{self.action}"
        self.service.policy.require(identify(request.env), action, project_id=row["project_id"])
        with self.service.store.read() as connection:
            respond(response, self.read(connection, id))


class Failover:
    """PUT /loadbalancers/{id}/failover."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        service, identity = self.service, identify(request.env)
        requests.expect_nothing(request)
        with service.store.read() as connection:
            row = found(connection, tables.load_balancers, id, title="Load Balancer")
        service.policy.require(identity, "loadbalancer:put_failover", project_id=row["project_id"])
        capabilities.provider(row["provider"], service.drivers)
        with service.act(identity, place_of(row).lb_id, doing="Load Balancer failover") as act:
            loadbalancers.fail_over(act)
            delegate.failed_over(act)
        respond_nothing(response, status=202)


def lb_statistics(connection: Connection, lb_id: str) -> Document:
    return {"stats": statistics.totals(connection, load_balancer_id=lb_id)}


def listener_statistics(connection: Connection, listener_id: str) -> Document:
    return {"stats": statistics.totals(connection, listener_id=listener_id)}


LOAD_BALANCER = loadbalancers.KIND.view.only("id", "name", *BOTH)
LISTENER = listeners.CHILD.kind.view.only("id", "name", *BOTH, "default_pool_id")
POOL = pools.CHILD.kind.view.only("id", "name", *BOTH, "healthmonitor_id", "listeners", "members")
MEMBER = members.CHILD.kind.view.only("id", "name", *BOTH, "address", "protocol_port")
MONITOR = healthmonitors.CHILD.kind.view.only("id", "name", *BOTH, "type")
"""What the status tree shows of each."""


def status_tree(connection: Connection, lb_id: str) -> Document:
    """Both statuses of the load balancer, its listeners, the pools that these use, monitors and members."""
    lb = read_one(connection, LOAD_BALANCER, lb_id) or {}

    def of(view: View) -> list[Document]:
        return read_all(connection, view, view.table.c.load_balancer_id == lb_id)

    member = {row["id"]: row for row in of(MEMBER)}
    monitor = {row["id"]: row for row in of(MONITOR)}
    every_pool = of(POOL)
    pool = {row["id"]: _pool(row, member, monitor) for row in every_pool}
    users = {row["id"]: [user["id"] for user in row["listeners"]] for row in every_pool}
    shown = []
    for listener in of(LISTENER):
        default = listener["default_pool_id"]
        used = [id for id, listener_ids in users.items() if listener["id"] in listener_ids and id != default]
        first = [default] if default in pool else []
        shown.append(_brief(listener, *BOTH) | {"pools": [pool[id] for id in [*first, *used]]})
    return {"statuses": {"loadbalancer": _brief(lb, *BOTH) | {"listeners": shown}}}


def _brief(row: Mapping[str, Any], *names: str) -> Document:
    return {name: row[name] for name in ("id", "name", *names)}


def _pool(row: Mapping[str, Any], member: Mapping[str, Document], monitor: Mapping[str, Document]) -> Document:
    shown = _brief(row, "provisioning_status", "operating_status")
    watched = monitor.get(row["healthmonitor_id"] or "")
    if watched is not None:
        shown["health_monitor"] = _brief(watched, "type", "provisioning_status", "operating_status")
    shown["members"] = [_brief(member[each["id"]], *BOTH, "address", "protocol_port") for each in row["members"]]
    return shown
