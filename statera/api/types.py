# SPDX-License-Identifier: Apache-2.0
"""What a field may hold: each type turns a JSON value into ours or raises the fault that clients know."""

import contextlib
import ipaddress
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec import Struct

from statera.errors import BadField, BadRequest, Conflict


class At(Struct, frozen=True):
    """Where a value stands: its field, the name of the whole argument, the whole body, the list that it is in."""

    field: str
    argument: str
    body: object
    within: object = None

    def bad(self, value: object, why: str) -> BadField:
        """The fault of a bad value; one in a list shows the whole list."""
        return BadField(self.field, value if self.within is None else self.within, why)

    def not_among(self, values: Sequence[object], value: object) -> BadField:
        return self.bad(value, f"Value should be one of: {', '.join(map(str, values))}")

    def misshapen(self, why: str) -> BadField:
        """A value of another JSON type than asked for: the fault names the argument and shows the whole body."""
        return BadField(self.argument, self.body, why)


class Type(Protocol):
    def parse(self, value: Any, at: At) -> Any:
        """Our value for the JSON *value*, which is not null. Raise the fault of a bad one."""


class Text(Struct, frozen=True):
    longest: int | None = None
    shortest: int = 0
    pattern: str | None = None

    def parse(self, value: Any, at: At) -> str:
        if not isinstance(value, str):
            raise at.bad(value, "Value should be string")
        if "\0" in value:
            raise at.bad(value, "Value should not hold a NUL character")
        if len(value) < self.shortest:
            raise at.bad(value, f"Value should have a minimum character requirement of {self.shortest}")
        if self.longest is not None and len(value) > self.longest:
            raise at.bad(value, f"Value should have a maximum character requirement of {self.longest}")
        if self.pattern and not re.match(self.pattern, value):
            raise at.bad(value, f"Value should match the pattern {self.pattern}")
        return value


class Uuid(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> str:
        try:
            return str(uuid.UUID(value))
        except (ValueError, TypeError, AttributeError):
            raise at.bad(value, "Value should be UUID format") from None


LARGEST_INT = 2**31 - 1
"""What an integer column holds in every database."""


class Int(Struct, frozen=True):
    smallest: int = -LARGEST_INT
    largest: int = LARGEST_INT

    def parse(self, value: Any, at: At) -> int:
        try:
            number = int(value)
        except (ValueError, TypeError, OverflowError):
            raise at.misshapen(f"invalid literal for int() with base 10: '{value}'") from None
        if number < self.smallest:
            raise at.bad(value, f"Value should be greater or equal to {self.smallest}")
        if number > self.largest:
            raise at.bad(value, f"Value should be lower or equal to {self.largest}")
        return number


TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class Bool(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> bool:
        if isinstance(value, (bool, int)):
            return bool(value)
        if isinstance(value, str) and value.strip() in TRUE | FALSE:
            return value.strip() in TRUE
        raise at.misshapen(f"Value not an unambiguous boolean: {value}")


class Enum(Struct, frozen=True):
    values: tuple[object, ...]

    def parse(self, value: Any, at: At) -> Any:
        if isinstance(value, (bool, list, dict)) or value not in self.values:
            raise at.not_among(self.values, value)
        return self.values[self.values.index(value)]


class Number(Struct, frozen=True):
    """One of *values*; digits in text count as a number."""

    values: tuple[float, ...]

    def parse(self, value: Any, at: At) -> float:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            if not isinstance(value, bool) and float(value) in self.values:
                return float(value)
        raise at.not_among(self.values, value)


class Ip(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> str:
        try:
            ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:
            raise at.bad(value, "Value should be IPv4 or IPv6 format") from None
        return str(value)


class Cidr(Struct, frozen=True):
    """A network or a bare address; host bits are cleared."""

    def parse(self, value: Any, at: At) -> str:
        try:
            return str(ipaddress.ip_network(value if isinstance(value, str) else "", strict=False))
        except ValueError:
            raise at.bad(value, "Value should be IPv4 or IPv6 CIDR format") from None


BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


class Url(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> str:
        if not isinstance(value, str) or BLANK.search(value) or not _has_host(value):
            raise at.bad(value, "Value must be a valid URL string")
        return value


def _has_host(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


class UrlPath(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> str:
        if not isinstance(value, str) or not value.startswith("/") or BLANK.search(value):
            raise at.bad(value, "Value must be a valid URL Path string")
        return value


class Alpn(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> str:
        if value not in ("h2", "http/1.1", "http/1.0"):
            raise at.bad(value, "Value should be a valid ALPN protocol ID")
        return str(value)


class ListOf(Struct, frozen=True):
    item: Any

    def parse(self, value: Any, at: At) -> list[Any]:
        if not isinstance(value, list):
            raise at.misshapen(f"Value not a valid list: {value}")
        inside = At(at.field, at.argument, at.body, value)
        return [self.item.parse(item, inside) for item in value]


class MapOf(Struct, frozen=True):
    """An object of texts."""

    item: Any

    def parse(self, value: Any, at: At) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise at.misshapen(f"Value not a valid dict: {value}")
        return {key: self.item.parse(item, at) for key, item in value.items()}


class Tags(Struct, frozen=True):
    def parse(self, value: Any, at: At) -> list[str]:
        tags: list[str] = ListOf(Text(255)).parse(value, at)
        if len(set(tags)) < len(tags):
            raise Conflict("Already an entity with that specified id.")
        return tags


class Part(Protocol):
    """One key of an object: what `api.fields.Field` is to the parser."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> Any: ...
    @property
    def required(self) -> bool: ...


class Nested(Struct, frozen=True):
    """An object inside a body; *finish*, when given, fills in what was not sent."""

    parts: tuple[Any, ...]
    finish: Any = None

    def parse(self, value: Any, at: At) -> dict[str, Any]:
        argument = f"{at.argument}.{at.field}"
        if not isinstance(value, dict):
            raise BadField(argument, value, "Value should be an object")
        parsed = parse_object(self.parts, value, argument)
        return parsed if self.finish is None else self.finish(parsed)


def parse_object(parts: Sequence[Part], body: Mapping[str, Any], argument: str) -> dict[str, Any]:
    """The keys that were sent, with our values; null stays None. Unknown keys come first, then *parts* in order."""
    body = _without_alias(parts, body)
    unknown = [key for key in body if key not in {part.name for part in parts}]
    if unknown:
        raise BadRequest(f"Unknown attribute{'s'[:len(unknown) - 1]} for argument {argument}: {', '.join(unknown)}")
    parsed = {}
    for part in parts:
        at = At(part.name, argument, body)
        if part.name in body:
            value = body[part.name]
            parsed[part.name] = None if value is None else part.type.parse(value, at)
        elif part.required:
            raise at.bad(None, "Mandatory field missing.")
    return parsed


def _without_alias(parts: Sequence[Part], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """`tenant_id` is an older word for `project_id`, and wins."""
    if "tenant_id" not in body or "project_id" not in {part.name for part in parts}:
        return body
    return {key: value for key, value in body.items() if key != "tenant_id"} | {"project_id": body["tenant_id"]}
