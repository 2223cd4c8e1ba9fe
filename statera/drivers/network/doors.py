# SPDX-License-Identifier: Apache-2.0
"""From the doors of a guard to the rules of a security group."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network

from statera.drivers.cloud import Json
from statera.model.guard import ANYWHERE, Door, Guard

Key = tuple[str | None, ...]
"""What tells one rule from another; from anywhere is None, however it was spelled."""

FIELDS = ("ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id")


def rules(group_id: str, guard: Guard, addresses: Sequence[str]) -> Mapping[Key, Json]:
    """The rules of the group by key; *addresses* of the amphorae tell by which family the two of a pair talk."""
    families = sorted({ip_address(address).version for address in addresses})
    found = [rule for door in guard.doors for rule in _rules(group_id, door, families)]
    return {key(rule): rule for rule in found}


def key(rule: Json) -> Key:
    spelled = [rule.get(name) for name in FIELDS]
    return tuple(None if value in (None, *ANYWHERE.values()) else str(value) for value in spelled)


def _rules(group_id: str, door: Door, families: Sequence[int]) -> Iterator[Json]:
    versions = families if door.cidr is None else [ip_network(door.cidr).version]
    for version in versions:
        rule: Json = {"security_group_id": group_id, "direction": "ingress", "ethertype": f"IPv{version}",
                "protocol": door.protocol}
        if door.port is not None:
            rule |= {"port_range_min": door.port, "port_range_max": door.port}
        if door.cidr is None:
            rule["remote_group_id"] = group_id
        elif door.cidr not in ANYWHERE.values():
            rule["remote_ip_prefix"] = str(ip_network(door.cidr))
        yield rule
