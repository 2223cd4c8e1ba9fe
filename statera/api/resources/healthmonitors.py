# SPDX-License-Identifier: Apache-2.0
"""Health monitors."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Numeric, cast

from statera.api import rules
from statera.api.acts import Act
from statera.api.fields import DEFAULT, REQUIRED, Field, ids, tags, text
from statera.api.handlers import Child, Place, Values, add, alter, found, place_of, resolved
from statera.api.kinds import Kind
from statera.api.resources import pools
from statera.api.types import Bool, Enum, Int, Number, Text, UrlPath, Uuid
from statera.errors import Conflict
from statera.store import tables, wishes
from statera.store.lists import Row, tags_of

CODES = r"^(\d{3}(\s*,\s*\d{3})*)$|^(\d{3}-\d{3})$"
HOST_NAME = r"^(?=.{1,253}\.?$)(?:(?!-|[^.]+_)[A-Za-z0-9-_]{1,63}(?<!-)(?:\.|$))+$"
HTTP_DEFAULTS = {"http_method": "GET", "url_path": "/", "expected_codes": "200"}

VERSION = cast(tables.health_monitors.c.http_version, Numeric(3, 1, asdecimal=False))
"""MariaDB's FLOAT 1.1 equals no 1.1."""

FIELDS = (
    Field(name="id"),
    text("name"),
    Field(name="type", type=Enum(("HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO", "UDP-CONNECT", "SCTP")), post=REQUIRED,
          put=False),
    Field(name="delay", type=Int(0), post=REQUIRED),
    Field(name="timeout", type=Int(0), post=REQUIRED),
    Field(name="max_retries", type=Int(1, 10), post=REQUIRED),
    Field(name="max_retries_down", type=Int(1, 10), post=3, null=DEFAULT),
    Field(name="http_method", type=Enum(
        ("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT")), post=None),
    Field(name="url_path", type=UrlPath(), post=None),
    Field(name="expected_codes", type=Text(pattern=CODES), post=None),
    Field(name="admin_state_up", type=Bool(), post=True, null=False),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="pools", source="pool_id", show=ids, filtered=False),
    Field(name="provisioning_status"),
    Field(name="operating_status"),
    Field(name="created_at"),
    Field(name="updated_at"),
    tags(tags_of),
    Field(name="http_version", type=Number((1.0, 1.1)), post=None),
    Field(name="domain_name", type=Text(255, 1, HOST_NAME), post=None),
    Field(name="pool_id", type=Uuid(), post=REQUIRED, put=False, shown=False),
)

KIND = Kind(
    name="healthmonitor", plural="healthmonitors", title="Health Monitor", argument="health_monitor_",
    policy="healthmonitor", table=tables.health_monitors, fields=FIELDS,
    aliases={"pool_id": "pool_id", "enabled": "admin_state_up", "http_version": VERSION},
)


def place(connection: Connection, values: Values) -> Place:
    return place_of(found(connection, tables.pools, values["pool_id"], title="Pool"))


def create(act: Act, values: dict[str, Any]) -> str:
    pool = act.reload(tables.pools, values["pool_id"], title="Pool")
    rules.check(rules.MONITOR_TYPE, case_of(act, values, values, pool["protocol"]))
    act.quota("health_monitor")
    act.require_parent("Pool", tables.pools, pool["id"])
    act.require_lb()
    monitor = judged(act, values, pool["protocol"])
    if act.rows(tables.health_monitors, tables.health_monitors.c.pool_id == pool["id"]):
        raise Conflict("This pool already has a health monitor")
    act.require_served("healthmonitor", monitor)
    id = add(act, KIND, monitor)
    pools.touch(act, pool["id"])
    return id


def judged(act: Act, values: dict[str, Any], pool_protocol: str) -> dict[str, Any]:
    """The monitor as it will be stored, if the rules about its fields allow it."""
    rules.check(rules.MONITOR_POST, case_of(act, values, values, pool_protocol))
    if values["type"] not in rules.HTTP_TYPES:
        return values | dict.fromkeys(HTTP_DEFAULTS)
    return values | {name: default for name, default in HTTP_DEFAULTS.items() if values[name] is None}


def case_of(act: Act, sent: Values, after: Values, pool_protocol: str) -> rules.Case:
    return rules.Case(sent, {**after, "pool_protocol": pool_protocol}, act.settings.api_settings)


def change(act: Act, row: Row, sent: dict[str, Any]) -> None:
    changes = resolved(KIND, sent, act)
    pool = act.reload(tables.pools, row["pool_id"], title="Pool")
    rules.check(rules.MONITOR_PUT, case_of(act, sent, {**row, **changes}, pool["protocol"]))
    changes |= {name: default for name, default in HTTP_DEFAULTS.items() if name in sent and sent[name] is None}
    require_states(act, pool["id"])
    alter(act, KIND, row["id"], changes)
    pools.touch(act, pool["id"])


def remove(act: Act, row: Row, _query: Mapping[str, str]) -> None:
    require_states(act, row["pool_id"])
    wishes.remove_rows(act.connection, tables.health_monitors, [row["id"]], version=act.version())
    pools.touch(act, row["pool_id"])


def require_states(act: Act, pool_id: str) -> None:
    act.require_parent("Pool", tables.pools, pool_id)
    act.require_lb()


CHILD = Child(kind=KIND, place=place, create=create, change=change, remove=remove)
