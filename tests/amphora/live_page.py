# SPDX-License-Identifier: Apache-2.0
"""docs/reference/live-changes.md: which way each change takes, and what it breaks."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

HEAD = """\
<!-- Written by script/live-changes; a test checks that the ways are still these. -->

# Which way a change takes

A change reaches HAProxy in one of three ways. *nothing*: it does not concern HAProxy. *runtime*: commands to the
running process, or rules of the kernel; everything goes on. *reload*: another worker starts with the new configuration
and takes over the listening sockets; the old one finishes its connections, and tells idle clients with their next
answer to connect anew. It ends at the latest after `[agent] hard_stop_seconds`, or when `[agent] most_old_workers`
younger ones are finishing theirs. Several changes that come together are one reload.

Each row was done, and undone, on a real amphora under five kinds of traffic at once: requests on connections that
are kept, WebSockets, downloads that take for ever, TLS, and UDP flows, three clients each. *served* and *broken* count
them until each kind was served again; broken are failed requests, connections that ended before their time and flows
that lost their member. *time* is from the agent's getting the spec to the data plane's running it, all that load
included.

"""


class Row(NamedTuple):
    object: str
    what: str
    way: str
    milliseconds: float
    served: int
    broken: Mapping[str, int]
    breaks: Sequence[str]


def page(rows: Sequence[Row]) -> str:
    return HEAD + "\n".join(table(name, list(some)) for name, some in groupby(rows, lambda row: row.object))


def table(name: str, rows: Sequence[Row]) -> str:
    lines = [f"## {name[0].upper()}{name[1:]}\n", "| change | way | time | served | broken |", "|---|---|--:|--:|---|"]
    for row in rows:
        broken = ", ".join(f"{count} {kind}" for kind, count in row.broken.items() if count)
        broken = f"what it removes ({broken})" if row.breaks and broken else broken or "0"
        lines.append(f"| {row.what} | {row.way} | {row.milliseconds:.0f} ms | {row.served} | {broken} |")
    return "\n".join(lines) + "\n"
