# SPDX-License-Identifier: Apache-2.0
"""How text that a user wrote becomes one word of HAProxy's configuration, or is refused with `GiveUp`."""

import ipaddress
import re
from collections.abc import Mapping
from typing import TypeVar

from statera.errors import GiveUp

Value = TypeVar("Value")


def refused(what: str, value: object) -> GiveUp:
    return GiveUp("SPEC_REFUSED", f"{what} {value!r} cannot be put into a HAProxy configuration")


def quote(text: str) -> str:
    """One word of a configuration line that means exactly *text*; control characters raise `GiveUp`."""
    if re.fullmatch(r"[\w.:/,\[\]+=?&@-]+", text, re.ASCII):
        return text
    if not text.isprintable():
        raise refused("text", text)
    return "'" + text.replace("'", r"'\''") + "'"


def name(identifier: str) -> str:
    """An id as the name of a proxy or server, safe in the file and in commands; other text raises `GiveUp`."""
    if not re.fullmatch(r"[0-9A-Za-z:_-]+", identifier):
        raise refused("id", identifier)
    return identifier


def literal(text: str) -> str:
    """A word for places where HAProxy would evaluate `%[…]`."""
    return quote(text.replace("%", "%%"))


def endpoint(ip: str, port: int) -> str:
    """`address:port` in the one form that HAProxy takes for both families; anything else raises `GiveUp`."""
    return f"{address(ip)}:{port}"


def address(ip: str) -> str:
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        raise refused("address", ip) from None
    return f"[{parsed}]" if parsed.version == 6 else str(parsed)


def one_of(table: Mapping[str, Value], what: str, word: str) -> Value:
    if word not in table:
        raise refused(what, word)
    return table[word]


def token(text: str) -> str:
    """The name of a header or a cookie; other text raises `GiveUp`."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise refused("name", text)
    return text
