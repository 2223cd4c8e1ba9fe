# SPDX-License-Identifier: Apache-2.0
"""The book of local networks: who has which address. The api's `local` driver writes it."""

from collections.abc import Collection, Mapping, Sequence
from secrets import randbelow
from typing import Any, TypeVar

from msgspec import convert, structs
from sqlalchemy import ColumnElement, Connection, RowMapping, delete, insert, select, update

from statera import wire
from statera.errors import AddressTaken, Conflict, InUse, NotFound, SubnetFull
from statera.model.networks import (
    FIRST_VNI,
    LAST_VNI,
    LocalNetwork,
    LocalPort,
    LocalSubnet,
    block,
    check_address,
    first_free,
    size,
)
from statera.store import tables, wake
from statera.store.engine import Store

NETWORK_FIELDS = tuple(LocalNetwork.__struct_fields__)
SUBNET_FIELDS = tuple(LocalSubnet.__struct_fields__)
PORT_FIELDS = tuple(field for field in LocalPort.__struct_fields__ if field != "fixed_ips")

Record = TypeVar("Record", LocalNetwork, LocalSubnet, LocalPort)


class NetworkBook:
    """Networks, subnets, ports and addresses in *store*; each call is one transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def networks(self, *ids: str) -> list[LocalNetwork]:
        """All networks, or those of *ids* that exist, oldest first."""
        with self.store.read() as connection:
            return _networks(connection, *ids)

    def subnets(self, *ids: str, network_id: str | None = None) -> list[LocalSubnet]:
        """All subnets, those of *ids*, or those of one network, oldest first."""
        with self.store.read() as connection:
            return _subnets(connection, *ids, network_id=network_id)

    def ports(self, *ids: str) -> list[LocalPort]:
        """All ports, or those of *ids*, oldest first."""
        with self.store.read() as connection:
            return _ports(connection, *([tables.ports.c.id.in_(ids)] if ids else []))

    def free_addresses(self, subnet: LocalSubnet) -> int:
        """How many addresses the subnet's pools can still give."""
        with self.store.read() as connection:
            return max(0, size(subnet.allocation_pools) - len(_taken(connection, subnet.id)))

    def add_network(self, network: LocalNetwork) -> None:
        """Write the network down and wake who plugs bridges; raise `Conflict` if its bridge is another's."""
        with self.store.write() as connection:
            statement = select(tables.networks.c.id).where(tables.networks.c.bridge == network.bridge)
            if owner := connection.scalar(statement):
                raise Conflict(f"Bridge {network.bridge} is already network {owner}.")
            if network.vni is None and not network.existing_bridge:
                network = structs.replace(network, vni=_free_vni(connection))
            connection.execute(insert(tables.networks).values(structs.asdict(network)))
            wake.announce(connection)

    def add_subnet(self, subnet: LocalSubnet) -> None:
        """Write the subnet down; raise `Conflict` if it overlaps another of its network."""
        with self.store.write() as connection:
            _lock(connection, subnet.network_id)
            for other in _subnets(connection, network_id=subnet.network_id):
                if other.ip_version == subnet.ip_version and block(other.cidr).overlaps(block(subnet.cidr)):
                    raise Conflict(f"cidr {subnet.cidr} overlaps {other.cidr} of subnet {other.id}.")
            connection.execute(insert(tables.subnets).values(_plain(structs.asdict(subnet))))
            wake.announce(connection)

    def rename(self, kind: str, id: str, changes: Mapping[str, Any]) -> None:
        """Change the name or description of a row of the table *kind*; one that is gone is left so."""
        table = tables.metadata.tables[kind]
        with self.store.write() as connection:
            connection.execute(update(table).where(table.c.id == id).values(changes))

    def remove_network(self, id: str) -> None:
        """Forget the network and its subnets; raise `InUse` while it has ports."""
        with self.store.write() as connection:
            _lock(connection, id)
            if found := _ports(connection, tables.ports.c.network_id == id):
                raise InUse("Network", id, f"port {found[0].id} ({found[0].name})")
            connection.execute(delete(tables.networks).where(tables.networks.c.id == id))
            wake.announce(connection)

    def remove_subnet(self, id: str) -> None:
        """Forget the subnet; raise `InUse` while a port has an address in it."""
        addresses = tables.port_addresses.c
        with self.store.write() as connection:
            for subnet in _subnets(connection, id):
                _lock(connection, subnet.network_id)
            used = select(addresses.ip_address, addresses.port_id).where(addresses.subnet_id == id)
            if found := connection.execute(used).first():
                raise InUse("Subnet", id, f"port {found.port_id} ({found.ip_address})")
            connection.execute(delete(tables.subnets).where(tables.subnets.c.id == id))
            wake.announce(connection)

    def ensure_port(self, port: LocalPort, *, wanted: Sequence[tuple[str, str | None]]) -> LocalPort:
        """The port named like *port* that has an address in the first subnet of *wanted*, made if need be.

        *wanted* are (subnet id, address or None for any free one). Raise `AddressTaken` or `SubnetFull`, and
        `Invalid` for an address outside its subnet; then nothing was made.
        """
        with self.store.write() as connection:
            _lock(connection, port.network_id)
            for found in _ports(connection, tables.ports.c.name == port.name):
                if any(subnet_id == wanted[0][0] for subnet_id, _ in found.fixed_ips):
                    return found
            return _add(connection, port, wanted)

    def add_port(self, port: LocalPort, *, wanted: Sequence[tuple[str, str | None]]) -> LocalPort:
        """Make the port whatever others are called; errors as of `ensure_port`."""
        with self.store.write() as connection:
            _lock(connection, port.network_id)
            return _add(connection, port, wanted)

    def remove_port(self, id: str) -> None:
        """Forget the port; one that is gone is success."""
        with self.store.write() as connection:
            connection.execute(delete(tables.ports).where(tables.ports.c.id == id))

    def use_port(self, id: str, *, device_id: str, device_owner: str) -> LocalPort:
        """Give the port to a device; raise `NotFound` for no port, `InUse` if another device has it."""
        with self.store.write() as connection:
            row = select(tables.ports.c.device_id).where(tables.ports.c.id == id).with_for_update()
            found = connection.execute(row).one_or_none()
            if found is None:
                raise NotFound("Port", id)
            if found.device_id not in ("", device_id):
                raise InUse("Port", id, found.device_id)
            changes = {"device_id": device_id, "device_owner": device_owner}
            connection.execute(update(tables.ports).where(tables.ports.c.id == id).values(changes))
            return _ports(connection, tables.ports.c.id == id)[0]

    def release_device(self, device_id: str, *, prefix: str, keep: Sequence[str] = ()) -> None:
        """Delete the device's ports whose names start with *prefix*, free its others; not those in subnets *keep*."""
        ports, addresses = tables.ports.c, tables.port_addresses.c
        kept = select(addresses.port_id).where(addresses.subnet_id.in_(keep))
        with self.store.write() as connection:
            theirs = select(ports.id).where(ports.device_id == device_id, ports.id.not_in(kept))
            found = connection.scalars(theirs).all()
            ours = ports.name.startswith(prefix, autoescape=True)
            connection.execute(delete(tables.ports).where(ports.id.in_(found), ours))
            connection.execute(update(tables.ports).where(ports.id.in_(found)).values(device_id="", device_owner=""))


def local_networks(connection: Connection) -> tuple[wire.LocalNetwork, ...]:
    """Every network as hosts carry it; the gateways of an existing bridge are its owner's business."""
    gateways: dict[str, list[str]] = {}
    for subnet in _subnets(connection):
        if subnet.gateway_ip:
            address = f"{subnet.gateway_ip}/{block(subnet.cidr).prefixlen}"
            gateways.setdefault(subnet.network_id, []).append(address)
    return tuple(
        wire.LocalNetwork(
            id=network.id, bridge=network.bridge, mtu=network.mtu, existing=network.existing_bridge,
            project_id=network.project_id, shared=network.shared, vni=network.vni,
            gateways=() if network.existing_bridge else tuple(gateways.get(network.id, ())),
        )
        for network in _networks(connection)
    )


def _free_vni(connection: Connection) -> int:
    """Any number that no network has: one of 16 million, so that two who ask at once hardly get the same."""
    while True:
        vni = FIRST_VNI + randbelow(LAST_VNI - FIRST_VNI + 1)
        if connection.scalar(select(tables.networks.c.id).where(tables.networks.c.vni == vni)) is None:
            return vni


def _lock(connection: Connection, network_id: str) -> None:
    """Let nobody else change the network's ports and subnets until the transaction ends."""
    statement = select(tables.networks.c.id).where(tables.networks.c.id == network_id).with_for_update()
    if connection.scalar(statement) is None:
        raise NotFound("Network", network_id)


def _add(connection: Connection, port: LocalPort, wanted: Sequence[tuple[str, str | None]]) -> LocalPort:
    connection.execute(insert(tables.ports).values({field: getattr(port, field) for field in PORT_FIELDS}))
    return structs.replace(port, fixed_ips=tuple(_give(connection, port.id, *wish) for wish in wanted))


def _give(connection: Connection, port_id: str, subnet_id: str, wanted: str | None) -> tuple[str, str]:
    """Give the port *wanted* or the lowest free address; the key of `port_addresses` has the last word."""
    subnet = next(iter(_subnets(connection, subnet_id)), None)
    if subnet is None:
        raise NotFound("Subnet", subnet_id)
    address = _choose(subnet, wanted, _taken(connection, subnet_id))
    connection.execute(
        insert(tables.port_addresses).values(subnet_id=subnet_id, ip_address=address, port_id=port_id)
    )
    return subnet_id, address


def _choose(subnet: LocalSubnet, wanted: str | None, taken: Collection[str]) -> str:
    if wanted is None:
        free = first_free(subnet.allocation_pools, taken)
        if free is None:
            raise SubnetFull(subnet.id, subnet.cidr)
        return free
    address = check_address(subnet, wanted)
    if address in taken or address == subnet.gateway_ip:
        raise AddressTaken(address, subnet.id)
    return address


def _taken(connection: Connection, subnet_id: str) -> frozenset[str]:
    addresses = tables.port_addresses.c
    return frozenset(connection.scalars(select(addresses.ip_address).where(addresses.subnet_id == subnet_id)))


def _networks(connection: Connection, *ids: str) -> list[LocalNetwork]:
    columns = [tables.networks.c[name] for name in NETWORK_FIELDS]
    statement = select(*columns).order_by(tables.networks.c.created_at, tables.networks.c.id)
    if ids:
        statement = statement.where(tables.networks.c.id.in_(ids))
    return [_record(LocalNetwork, NETWORK_FIELDS, row) for row in connection.execute(statement).mappings()]


def _subnets(connection: Connection, *ids: str, network_id: str | None = None) -> list[LocalSubnet]:
    columns = [tables.subnets.c[name] for name in SUBNET_FIELDS]
    statement = select(*columns).order_by(tables.subnets.c.created_at, tables.subnets.c.id)
    if ids:
        statement = statement.where(tables.subnets.c.id.in_(ids))
    if network_id is not None:
        statement = statement.where(tables.subnets.c.network_id == network_id)
    return [_record(LocalSubnet, SUBNET_FIELDS, row) for row in connection.execute(statement).mappings()]


def _ports(connection: Connection, *where: ColumnElement[bool]) -> list[LocalPort]:
    """The ports with their addresses, in one statement."""
    columns = [tables.ports.c[name] for name in PORT_FIELDS]
    addresses = tables.port_addresses.c
    statement = (
        select(*columns, addresses.subnet_id, addresses.ip_address)
        .outerjoin(tables.port_addresses, addresses.port_id == tables.ports.c.id)
        .where(*where).order_by(tables.ports.c.created_at, tables.ports.c.id, addresses.ip_address)
    )
    found: dict[str, list[RowMapping]] = {}
    for row in connection.execute(statement).mappings():
        found.setdefault(row["id"], []).append(row)
    return [_port(rows) for rows in found.values()]


def _port(rows: Sequence[RowMapping]) -> LocalPort:
    fixed_ips = [(row["subnet_id"], row["ip_address"]) for row in rows if row["subnet_id"]]
    return structs.replace(_record(LocalPort, PORT_FIELDS, rows[0]), fixed_ips=tuple(fixed_ips))


def _record(kind: type[Record], fields: Sequence[str], row: RowMapping) -> Record:
    return convert({field: row[field] for field in fields}, kind, strict=False)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """*values* with nested records as what JSON columns hold."""
    return values | {"allocation_pools": [structs.asdict(pool) for pool in values["allocation_pools"]]}
