# SPDX-License-Identifier: Apache-2.0
"""From HAProxy's metrics to those that dashboards for Octavia expect, in Prometheus' text format."""

import re
from collections.abc import Mapping

from msgspec import Struct

from statera.render.backends import DATAGRAMS
from statera.render.metrics import HIDDEN
from statera.wire import Counters, MemberSpec, Report, Spec

PREFIXES = {
    "haproxy_process_pool_": "octavia_memory_pool_",
    "haproxy_process_": "octavia_loadbalancer_",
    "haproxy_frontend_": "octavia_listener_",
    "haproxy_backend_": "octavia_pool_",
    "haproxy_server_": "octavia_member_",
}
RENAMED = {
    "octavia_pool_server_aborts_total": "octavia_pool_member_aborts_total",
    "octavia_pool_active_servers": "octavia_pool_active_members",
    "octavia_pool_backup_servers": "octavia_pool_backup_members",
}
LEFT_OUT = re.compile(r"haproxy_(process_build_info|backend_agg_\w+)$")
"""HAProxy's version is nobody's business; members say themselves what the aggregates count."""
LABELS = {
    "octavia_listener_": {"proxy": "listener"},
    "octavia_pool_": {"proxy": "pool"},
    "octavia_member_": {"proxy": "pool", "server": "member"},
}
WORDS = {"frontend": "listener", "backend": "pool", "server": "member"}
STATES = ("DOWN", "UP", "MAINT", "DRAIN", "NOLB")


COMMENT = re.compile(r"# (HELP|TYPE) (\w+) (.*)")
SAMPLE = re.compile(r"(\w+)((?:\{.*\})?) (\S+)")


class Family(Struct):
    """A metric with all its samples: the format wants them together."""

    kind: str = "gauge"
    help: str = ""
    samples: list[str] = []


Families = dict[str, Family]


def families(text: str) -> Families:
    """What HAProxy's exporter says, in Octavia's names."""
    found: Families = {}
    for line in text.splitlines():
        if (comment := COMMENT.fullmatch(line)) and (name := renamed(comment[2])):
            family = found.setdefault(name, Family())
            if comment[1] == "HELP":
                family.help = re.sub(r"\b(frontend|backend|server)(s?)\b", _reworded, comment[3])
            else:
                family.kind = comment[3]
        elif (sample := SAMPLE.fullmatch(line)) and (name := renamed(sample[1])) and not is_hidden(line):
            found.setdefault(name, Family()).samples.append(f"{name}{relabelled(name, sample[2])} {sample[3]}")
    return found


def _reworded(match: re.Match[str]) -> str:
    return WORDS[match[1]] + match[2]


def renamed(name: str) -> str | None:
    """Octavia's name of HAProxy's metric; None for one that is left out."""
    for prefix, ours in PREFIXES.items():
        if name.startswith(prefix) and not LEFT_OUT.match(name):
            plain = ours + name.removeprefix(prefix)
            return RENAMED.get(plain, plain)
    return None


def is_hidden(line: str) -> bool:
    return any(f'proxy="{hidden}"' in line for hidden in HIDDEN)


def relabelled(name: str, labels: str) -> str:
    for prefix, renames in LABELS.items():
        if name.startswith(prefix):
            for theirs, ours in renames.items():
                labels = labels.replace(f'{theirs}="', f'{ours}="', 1)
    return labels


def add(found: Families, name: str, value: float, *, kind: str = "gauge", help: str = "", **labels: str) -> None:
    family = found.setdefault(name, Family(kind, help))
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    family.samples.append(f"{name}{{{inner}}} {value:.15g}" if inner else f"{name} {value:.15g}")


def add_flows(found: Families, spec: Spec, report: Report) -> None:
    """What the kernel serves, of which HAProxy knows nothing."""
    pools = {pool.id: pool for pool in spec.pools}
    for listener in (one for one in spec.listeners if one.protocol in DATAGRAMS):
        add_listener(found, listener.id, report.counters.get(listener.id, Counters()))
        pool = pools.get(listener.default_pool_id or "")
        if pool is None:
            continue
        name = f"{pool.id}:{listener.id}"
        for state in STATES[:2]:
            add(found, "octavia_pool_status", report.pools.get(pool.id) == state, pool=name, state=state)
        for member in pool.members:
            word = member_state(member, report.members.get(member.id, ""))
            for state in STATES:
                add(found, "octavia_member_status", word == state, pool=name, member=member.id, state=state)
            add(found, "octavia_member_weight", member.weight, pool=name, member=member.id)


def add_listener(found: Families, id_: str, counters: Counters) -> None:
    for state in STATES[:2]:
        add(found, "octavia_listener_status", state == "UP", listener=id_, state=state)
    add(found, "octavia_listener_current_sessions", counters.active_connections, listener=id_)
    for field in ("bytes_in", "bytes_out"):
        add(found, f"octavia_listener_{field}_total", getattr(counters, field), kind="counter", listener=id_)
    for what in ("connections", "sessions"):
        add(found, f"octavia_listener_{what}_total", counters.total_connections, kind="counter", listener=id_)


def member_state(member: MemberSpec, word: str) -> str:
    if word in ("UP", "no check"):
        return "UP" if member.weight else "DRAIN"
    return word


def text(found: Mapping[str, Family]) -> str:
    """The whole page; a metric without samples is left out."""
    return "".join(f"{line}\n" for name, family in found.items() if family.samples for line in (
        f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}", *family.samples))
