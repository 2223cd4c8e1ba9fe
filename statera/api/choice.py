# SPDX-License-Identifier: Apache-2.0
"""Which provider, flavor and availability zone a new load balancer gets."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, RowMapping, Table, select

from statera.api import capabilities
from statera.config import Settings
from statera.drivers.provider.registry import Drivers
from statera.errors import BadRequest, DisabledOption, Invalid
from statera.store import tables

Values = Mapping[str, Any]


class Choice(Struct, frozen=True, kw_only=True):
    """*flavor* and *zone* are the data of their profiles."""

    provider: str
    topology: str
    flavor: Values
    zone: Values

    @property
    def vip_vnic_type(self) -> str:
        return "direct" if self.flavor.get("sriov_vip") else "normal"


def choose(connection: Connection, sent: Values, settings: Settings, *, drivers: Drivers) -> Choice:
    """Judge what the request names and fill in the rest."""
    flavor = _flavor(connection, sent)
    zone = _zone(connection, sent)
    name = _provider(sent, flavor["provider_name"] if flavor else None, settings)
    provider = capabilities.enabled(name, settings.api_settings.enabled_provider_drivers, drivers)
    flavor_data = msgspec.json.decode(flavor["flavor_data"]) if flavor else {}
    zone_data = msgspec.json.decode(zone["availability_zone_data"]) if zone else {}
    provider.validate_flavor(flavor_data)
    if zone:
        provider.validate_zone(zone_data)
    topology = flavor_data.get("loadbalancer_topology") or settings.controller_worker.loadbalancer_topology
    return Choice(provider=name, topology=topology, flavor=flavor_data, zone=zone_data)


def _flavor(connection: Connection, sent: Values) -> RowMapping | None:
    if "flavor_id" not in sent:
        return None
    row = _with_profile(connection, tables.flavors, "id", tables.flavor_profiles, sent["flavor_id"])
    if row is None:
        raise Invalid("Invalid flavor_id.")
    if not row["enabled"]:
        raise DisabledOption("flavor", row["id"])
    return row


def _zone(connection: Connection, sent: Values) -> RowMapping | None:
    if "availability_zone" not in sent:
        return None
    zone, profile = tables.availability_zones, tables.availability_zone_profiles
    row = _with_profile(connection, zone, "name", profile, sent["availability_zone"])
    if row is None:
        raise Invalid("Invalid availability zone.")
    if not row["enabled"]:
        raise DisabledOption("availability_zone", sent["availability_zone"])
    return row


def _with_profile(
    connection: Connection, table: Table, key: str, profile: Table, value: str | None
) -> RowMapping | None:
    columns = [column for column in profile.c if column.name not in ("id", "name")]
    statement = select(table, *columns).join(profile).where(table.c[key] == value)
    return connection.execute(statement).mappings().one_or_none()


def _provider(sent: Values, of_flavor: str | None, settings: Settings) -> str:
    """An explicit null or empty name is `amphora`, whatever the default."""
    named = (sent["provider"] or "amphora") if "provider" in sent else None
    if of_flavor and named and of_flavor != named:
        raise BadRequest(f"Flavor '{sent['flavor_id']}' is not compatible with provider '{named}'")
    return named or of_flavor or settings.api_settings.default_provider_driver


def flavor_of(connection: Connection, flavor_id: str | None) -> Values:
    """The data of a load balancer's flavor; empty when it has none."""
    row = _with_profile(connection, tables.flavors, "id", tables.flavor_profiles, flavor_id) if flavor_id else None
    data: Values = msgspec.json.decode(row["flavor_data"]) if row else {}
    return data
