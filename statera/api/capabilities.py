# SPDX-License-Identifier: Apache-2.0
"""What each provider can do, as tables: the single place that refuses what its data plane would not serve."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from statera.drivers.provider.registry import Driver, Drivers
from statera.errors import BadRequest, ProviderCannot, ProviderUnsupported
from statera.model.limits import LEAST_MEMORY_MB

Values = Mapping[str, Any]


class Unsupported(Struct, frozen=True):
    """Objects of *kind* are refused with *text* (`{}` is the offending value) when *value* gives something."""

    kind: str
    value: Callable[[Values], object]
    text: str


def outside(field: str, *served: str) -> Callable[[Values], object]:
    """The field's value when it is none of those that are served."""
    return lambda values: values[field] if values.get(field) not in (None, *served) else None


REFUSED = (
    Unsupported("l7policy", outside("protocol", "HTTP", "TERMINATED_HTTPS"),
                "{} protocol listeners do not support L7 policies"),
    Unsupported("member", lambda member: member.get("mixed_protocol"),
                "This provider doesn't support mixing IPv4 and IPv6 addresses for its VIP and members in {} load "
                "balancers."),
)
"""What the amphora provider refuses by contract, but for objects that come with a whole tree."""


class Provider(Protocol):
    """What the API asks about a provider. Each may raise `ProviderCannot`, what judges `ProviderUnsupported`."""

    def flavors(self) -> Mapping[str, str]:
        """What profiles of flavors may hold, with a description each."""

    def zones(self) -> Mapping[str, str]:
        """The same of availability zones."""

    def validate_flavor(self, data: Values) -> None:
        """Whether a flavor may say this."""

    def validate_zone(self, data: Values) -> None:
        """Whether an availability zone may say this."""


class Ours(Struct, frozen=True, kw_only=True):
    """A provider that Statera is itself; *picky*: profiles may hold what is described and nothing else."""

    name: str
    refused: tuple[Unsupported, ...] = ()
    flavor: Mapping[str, str]
    zone: Mapping[str, str]
    picky: bool = True

    def flavors(self) -> Mapping[str, str]:
        return self.flavor

    def zones(self) -> Mapping[str, str]:
        return self.zone

    def validate_flavor(self, data: Values) -> None:
        if self.picky:
            _validate(self.name, self.flavor, FLAVOR_VALUES, data)

    def validate_zone(self, data: Values) -> None:
        if self.picky:
            _validate(self.name, self.zone, ZONE_VALUES, data)


class Theirs(Struct, frozen=True):
    """A provider that is served by somebody else's driver, which answers for itself."""

    driver: Driver

    def flavors(self) -> Mapping[str, str]:
        return dict(self.driver.call("get_supported_flavor_metadata") or {})

    def zones(self) -> Mapping[str, str]:
        return dict(self.driver.call("get_supported_availability_zone_metadata") or {})

    def validate_flavor(self, data: Values) -> None:
        if data:
            self.driver.call("validate_flavor", dict(data))

    def validate_zone(self, data: Values) -> None:
        try:
            self.driver.call("validate_availability_zone", dict(data))
        except ProviderCannot:
            raise ProviderCannot(self.driver.name, NO_ZONES) from None


NO_ZONES = "This provider does not support availability zones."

FLAVOR = {
    "loadbalancer_topology": "The load balancer topology. One of: SINGLE - One amphora per load balancer. "
                             "ACTIVE_STANDBY - Two amphora per load balancer.",
    "compute_flavor": "The compute driver flavor ID.",
    "amp_image_tag": "The amphora image tag.",
    "sriov_vip": "When true, the VIP port will be created using an SR-IOV VF port.",
    "allow_member_sriov": "When true, users can request a member port be SR-IOV enabled at member creation time.",
    "memory_mb": f"Memory of each amphora in megabytes, at least {LEAST_MEMORY_MB}; how many connections fit follows.",
    "cpus": "How many CPUs each amphora may use, at least 0.05; parts of one are possible.",
    "max_connections": "The most connections that each amphora has at once, of all listeners together.",
}
ZONE = {
    "compute_zone": "The compute availability zone.",
    "volume_zone": "The volume availability zone.",
    "management_network": "The management network ID for the amphora.",
    "valid_vip_networks": "List of network IDs that are allowed for VIP use. This overrides/replaces the list of "
                          "allowed networks configured in `octavia.conf`.",
}
NOOP_FLAVOR = {"amp_image_tag": "The glance image tag to use for this load balancer."}
NOOP_ZONE = {
    "compute_zone": "The compute availability zone to use for this loadbalancer.",
    "volume_zone": "The volume availability zone to use for this loadbalancer.",
}

PROVIDERS: Mapping[str, Ours] = {
    **{name: Ours(name=name, refused=REFUSED, flavor=FLAVOR, zone=ZONE)
       for name in ("amphora", "amphorav2", "octavia")},
    **{name: Ours(name=name, flavor=NOOP_FLAVOR, zone=NOOP_ZONE, picky=False)
       for name in ("noop_driver", "noop_driver-alt")},
}


def provider(name: str, drivers: Drivers) -> Provider:
    """The provider that serves *name*. Raise `ProviderMissing`."""
    return PROVIDERS.get(name) or Theirs(drivers.get(name))


def enabled(name: str, names: Mapping[str, str], drivers: Drivers) -> Provider:
    """The provider, if users may name it."""
    if name not in names:
        raise BadRequest(f"Provider '{name}' is not enabled.")
    return provider(name, drivers)


def require(name: str, kind: str, values: Values, *, in_tree: bool) -> None:
    """Raise `ProviderUnsupported` when the provider refuses such an object; somebody else's driver says so later.

    *in_tree*: the object comes with a whole load balancer.
    """
    for row in () if in_tree or name not in PROVIDERS else PROVIDERS[name].refused:
        value = row.value(values) if row.kind == kind else None
        if value is not None:
            raise ProviderUnsupported(name, row.text.format(value))


FLAVOR_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "loadbalancer_topology": lambda value: value in ("SINGLE", "ACTIVE_STANDBY"),
    "sriov_vip": lambda value: isinstance(value, bool),
    "allow_member_sriov": lambda value: isinstance(value, bool),
    "memory_mb": lambda value: type(value) is int and LEAST_MEMORY_MB <= value <= 1 << 24,
    "cpus": lambda value: type(value) in (int, float) and 0.05 <= value <= 1024,
    "max_connections": lambda value: type(value) is int and 1 <= value <= 1_000_000,
}
ZONE_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "valid_vip_networks": lambda value: isinstance(value, list),
}


def _validate(
    name: str, known: Mapping[str, str], values: Mapping[str, Callable[[Any], bool]], data: Values
) -> None:
    for key, value in data.items():
        good = values.get(key, lambda each: isinstance(each, str))
        if key not in known or not good(value):
            raise ProviderUnsupported(name, f"{key}: {value}")
