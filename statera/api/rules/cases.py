# SPDX-License-Identifier: Apache-2.0
"""What a rule is: it looks at a case and either has nothing to say or gives the fault."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from statera.errors import ApiError, Invalid
from statera.model.pem import Material

Values = Mapping[str, Any]


class Options(Protocol):
    """The settings that rules ask for."""

    @property
    def allow_tls_terminated_listeners(self) -> bool: ...
    @property
    def allow_prometheus_listeners(self) -> bool: ...
    @property
    def allow_ping_health_monitors(self) -> bool: ...
    @property
    def tls_cipher_prohibit_list(self) -> str: ...
    @property
    def minimum_tls_version(self) -> str: ...
    @property
    def udp_connect_min_interval_health_monitor(self) -> int: ...


class Case(Struct, frozen=True):
    """*sent* is what the request says (POST: with its defaults), *after* the object as it would become.

    *vips* are the load balancer's addresses, *secrets* what references hold, None for one that cannot be had.
    """

    sent: Values
    after: Values
    settings: Options
    vips: tuple[str, ...] = ()
    vip_sg_ids: tuple[str, ...] = ()
    secrets: Mapping[str, Material | None] = {}

    @property
    def protocol(self) -> str:
        return str(self.after["protocol"])

    def names(self, *fields: str) -> bool:
        """Whether the request gives one of the fields a value."""
        return any(self.sent.get(field) for field in fields)

    def has(self, *fields: str) -> bool:
        """Whether one of the fields has a value, stored or sent."""
        return any(self.after.get(field) for field in fields)


Rule = Callable[[Case], ApiError | None]


def check(rules: Iterable[Rule], case: Case) -> None:
    """Raise the fault of the first broken rule."""
    for rule in rules:
        fault = rule(case)
        if fault is not None:
            raise fault


def rule(broken: Callable[[Case], object], text: str, fault: type[ApiError] = Invalid) -> Rule:
    """A rule with a fixed fault; *text* may name fields of the case's object."""
    def judge(case: Case) -> ApiError | None:
        return fault(text.format_map(case.after)) if broken(case) else None

    return judge


def when(applies: Callable[[Case], object], *rules: Rule) -> Rule:
    """The *rules* where they apply."""
    def judge(case: Case) -> ApiError | None:
        return next(filter(None, (each(case) for each in rules)), None) if applies(case) else None

    return judge
