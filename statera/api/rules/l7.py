# SPDX-License-Identifier: Apache-2.0
"""What an L7 policy redirects to, where it stands, and what an L7 rule may compare."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from statera.errors import BadRequest, GiveUp
from statera.render import l7
from statera.wire import L7RuleSpec

Values = Mapping[str, Any]

REJECT, TO_URL, TO_POOL, PREFIX = "REJECT", "REDIRECT_TO_URL", "REDIRECT_TO_POOL", "REDIRECT_PREFIX"
ACTIONS = (REJECT, TO_URL, TO_POOL, PREFIX)
NEEDS = {
    TO_URL: ("redirect_url", "redirect_url must not be None", "redirect_pool_id"),
    TO_POOL: ("redirect_pool_id", "redirect_pool_id or redirect_pool must not be None", "redirect_url"),
    PREFIX: ("redirect_prefix", "redirect_prefix must not be None", None),
}
"""Action: the target it needs, the fault without it, the target it drops."""
TARGETS = {
    "redirect_pool_id": TO_POOL, "redirect_url": TO_URL, "redirect_prefix": PREFIX,
}
"""A target decides the action; the first that is given wins."""
MOST_RULES = 50


def _bad(text: str) -> BadRequest:
    return BadRequest(f"Invalid L7 Policy arguments: {text}")


def redirect(given: Values, *, fresh: bool) -> dict[str, Any]:
    """What the values of a POST (*fresh*) or a PUT come to: the target wins over the action."""
    if not given and not fresh:
        raise _bad("Invalid update options")
    values = dict(given)
    if "action" in values and values["action"] is None:
        raise BadRequest("Invalid L7 Policy action specified: None")
    if values.get("action") == REJECT:
        values |= {"redirect_url": None, "redirect_pool_id": None}
    if values.get("action") in NEEDS:
        target, fault, dropped = NEEDS[values["action"]]
        if not values.get(target):
            raise _bad(fault)
        values |= {dropped: None} if dropped else {}
    if values.get("redirect_pool_id") and (values.get("redirect_url") or values.get("redirect_prefix")):
        raise _bad("Cannot specify redirect_pool_id and redirect_url or redirect_prefix at the same time")
    return _aimed(values, fresh=fresh)


def _aimed(values: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
    target = next((name for name in TARGETS if values.get(name)), None)
    if target is not None:
        others = {name: None for name in TARGETS if name != target}
        code = None if target == "redirect_pool_id" else values.get("redirect_http_code") or 302
        return values | others | {"action": TARGETS[target], "redirect_http_code": code}
    if values.get("action") == REJECT and not fresh:
        return values | dict.fromkeys(TARGETS) | {"redirect_http_code": None}
    return values


def inserted(order: Sequence[str], id: str, position: int | None) -> list[str]:
    """The policies of a listener in their new order: *id* at *position* (from 1), beyond the end and None: last."""
    rest = [other for other in order if other != id]
    index = len(rest) if position is None else min(position - 1, len(rest))
    return [*rest[:index], id, *rest[index:]]


# Rules.

RULE_TYPES = ("HOST_NAME", "PATH", "FILE_TYPE", "HEADER", "COOKIE", "SSL_CONN_HAS_CERT", "SSL_VERIFY_RESULT",
              "SSL_DN_FIELD")
COMPARE_TYPES = ("REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO")
KEYLESS = ("HOST_NAME", "PATH", "FILE_TYPE")

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
COOKIE_VALUE = re.compile(r"[A-Za-z0-9!#$%&'()*+-./:<=>?@[\]^_`{|}~]+\Z")
HEADER_VALUE = re.compile(r"([\x21-\x7e]+|\"[\x20-\x7e\t]*\")\Z")
FIELD_NAME = re.compile(r"[a-zA-Z][A-Za-z0-9-]*\Z")
DIGITS = re.compile(r"[0-9]+\Z")


class Shape(Struct, frozen=True):
    """What a type of rule may look like; `{type}` and `{value}` may stand in the faults."""

    value: re.Pattern[str] | None
    bad_value: str = ""
    key: re.Pattern[str] | None = None
    no_key: str = "Invalid L7 Rule: L7 rule type requires a key"
    bad_key: str = "Invalid characters in key"
    compare: tuple[str, ...] = COMPARE_TYPES
    bad_compare: str = "Invalid L7 Rule: invalid comparison type for rule type"
    forbids_key: bool = False


TEXT = Shape(HEADER_VALUE, "Invalid characters in comparison value")
ONLY_EQUAL = "Invalid L7 Rule: L7rule type {type} only supports the EQUAL_TO compare type."
SHAPES: Mapping[str, Shape] = {
    "HOST_NAME": TEXT,
    "PATH": TEXT,
    "FILE_TYPE": Shape(HEADER_VALUE, TEXT.bad_value, compare=("REGEX", "EQUAL_TO")),
    "HEADER": Shape(HEADER_VALUE, "Invalid characters in header value", key=HEADER_NAME),
    "COOKIE": Shape(COOKIE_VALUE, "Invalid characters in cookie value", key=HEADER_NAME),
    "SSL_CONN_HAS_CERT": Shape(
        re.compile(r"true\Z", re.IGNORECASE), "Invalid L7 Rule: L7rule value {value} is not a boolean True string.",
        compare=("EQUAL_TO",), bad_compare=ONLY_EQUAL, forbids_key=True),
    "SSL_VERIFY_RESULT": Shape(
        DIGITS, "Invalid L7 Rule: L7rule type SSL_VERIFY_RESULT needs a int value, which is >= 0",
        compare=("EQUAL_TO",), bad_compare=ONLY_EQUAL, forbids_key=True),
    "SSL_DN_FIELD": Shape(
        None, key=FIELD_NAME, no_key="Invalid L7 Rule: L7rule type SSL_DN_FIELD needs to specify a key and a value.",
        bad_key="Invalid L7 Rule: Invalid L7rule distinguished name field."),
}


def check_rule(rule: Values) -> None:
    """Raise what is wrong with the rule as it would become, also what no HAProxy could do with it."""
    fault = _fault(rule)
    if fault:
        raise BadRequest(f"Error parsing L7Rule: {fault.format(**rule) if '{' in fault else fault}")
    try:
        l7.test(L7RuleSpec(id="rule", type=rule["type"], compare_type=rule["compare_type"], value=rule["value"],
                           key=rule.get("key")))
    except GiveUp as error:
        raise BadRequest(f"Error parsing L7Rule: {error}") from error


def _fault(rule: Values) -> str | None:
    shape = SHAPES.get(rule["type"] or "")
    if shape is None:
        return "Invalid L7 Rule: invalid rule type"
    if not rule["value"]:
        return "Invalid L7 Rule: L7 rule type requires a value"
    return _key_fault(shape, rule.get("key")) or _value_fault(shape, rule)


def _key_fault(shape: Shape, key: str | None) -> str | None:
    if shape.forbids_key and key:
        return 'Invalid L7 Rule: L7rule type {type} does not use the "key" field.'
    if shape.key and not key:
        return shape.no_key
    return shape.bad_key if shape.key and not shape.key.match(key or "") else None


def _value_fault(shape: Shape, rule: Values) -> str | None:
    if rule["compare_type"] == "REGEX" and "REGEX" in shape.compare:
        return _regex_fault(rule["value"])
    if shape.value is not None and not shape.value.match(rule["value"]):
        return shape.bad_value
    return None if rule["compare_type"] in shape.compare else shape.bad_compare


def _regex_fault(text: str) -> str | None:
    try:
        re.compile(text)
    except re.error as error:
        return f"Unable to parse regular expression: {error}".replace("{", "(").replace("}", ")")
    return None


