# SPDX-License-Identifier: Apache-2.0
"""Which lines HAProxy writes about what it does and serves, and the same words for what the kernel serves."""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from statera.render.text import name, one_of, refused
from statera.wire import ListenerSpec, Spec

SOCKET = "statera-log"
"""The agent listens there, in the amphora's namespace: an abstract name is seen from within HAProxy's chroot too."""
LONGEST = 8192
HEADS = {form: form for form in ("rfc5424", "rfc3164")}
INFO, NOTICE = 6, 5

FORMAT = (
    '{{ project_id }} {{ lb_id }} %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc')
"""The flow log's lines unless [haproxy_amphora] user_log_format says otherwise; the fields are upstream's, in order."""

VARIABLE = re.compile(r"%(?:\{[^}]*\})?(?:\[[^\]]*\]|[A-Za-z]+)")
UNSAFE = re.compile(r"[^0-9A-Za-z.:_-]", re.ASCII)
ABSENT = {"%r": "-", "%{+Q}r": "-", "%ST": "-"}
"""What a connection that is no request has not."""


class Logs(Struct, frozen=True, kw_only=True):
    """*flow_format* None: connections are not logged. Facilities are numbers of syslog's `local`.

    *takes_all* says that somebody takes the lines of every load balancer, not only of one with a log server of its own.
    """

    flow_format: str | None = FORMAT
    takes_all: bool = True
    flow_facility: int = 0
    admin_facility: int = 1
    head: str = "rfc5424"


def global_lines(spec: Spec, logs: Logs | None) -> Iterator[str]:
    """What HAProxy says of itself and of members, for the operator."""
    if logs:
        yield f"log {_target(logs, logs.admin_facility)} notice"
        yield f"log-send-hostname {name(spec.amphora_id)}"
        yield "log-tag haproxy"


def frontend_lines(listener: ListenerSpec, mode: str, *, spec: Spec, logs: Logs | None) -> Iterator[str]:
    """One line for each request or connection, refused handshakes included, for the tenant."""
    if logs and (template := flow_template(spec, logs)):
        line = _word(flow_format(template, spec, is_http=mode == "http"))
        yield f"log {_target(logs, logs.flow_facility)}"
        yield f"log-format {line}\nerror-log-format {line}"


def flow_template(spec: Spec, logs: Logs) -> str | None:
    """The form of lines about connections, None when nobody would take them: making them costs HAProxy time."""
    return logs.flow_format if logs.takes_all or spec.log_target else None


def backend_lines(logs: Logs | None) -> Iterator[str]:
    if logs:
        yield "log global"


def _target(logs: Logs, facility: int) -> str:
    return f"abns@{SOCKET} len {LONGEST} format {one_of(HEADS, 'log_header_format', logs.head)} local{facility}"


def _word(text: str) -> str:
    """As `quote`, for a text of the operator's in which HAProxy is to see its own variables."""
    if not text.isprintable():
        raise refused("user_log_format", text)
    return "'" + text.replace("'", r"'\''") + "'"


def flow_format(template: str, spec: Spec, *, is_http: bool) -> str:
    """The template with the owner's ids in place; where there are no requests, dashes for what they would say."""
    owner = {"project_id": spec.project_id or "-", "lb_id": spec.load_balancer_id}
    text = re.sub(r"\{\{ *(\w+) *\}\}", lambda found: UNSAFE.sub("_", owner.get(found[1], "-")), template)
    return text if is_http else VARIABLE.sub(lambda found: ABSENT.get(found[0], found[0]), text)


def kernel_line(template: str, spec: Spec, facts: Mapping[str, str]) -> str:
    """The line about a flow that the kernel served; *facts* by HAProxy's variables, dashes for all others."""
    text = flow_format(template, spec, is_http=False)
    return VARIABLE.sub(lambda found: _fact(found[0], facts), text)


def _fact(variable: str, facts: Mapping[str, str]) -> str:
    plain = re.sub(r"\{[^}]*\}", "", variable)
    value = facts.get(plain, "-")
    return f'"{value}"' if "+Q" in variable else value
