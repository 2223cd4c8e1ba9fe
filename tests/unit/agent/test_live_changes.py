# SPDX-License-Identifier: Apache-2.0
"""docs/reference/live-changes.md tells of every kind of change, and the way that each takes is still that."""

import re
from pathlib import Path

from amphora.changes import CHANGES, everything
from msgspec.structs import replace

from statera.agent.apply import afresh, changes
from statera.model.fleet import Role
from statera.render import flows, nftables
from statera.render.haproxy import Machine
from statera.wire import Address, Interface, Spec

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "live-changes.md"
MACHINE = Machine(run="/run/statera/a", chroot="/run/statera/a/empty")
SPEC = everything(Spec(
    amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE,
    interfaces=(Interface(name="eth1", network_id="n", addresses=(Address(ip="192.0.2.100", prefix=24),)),),
    vips=(Address(ip="192.0.2.200", prefix=24),)), "192.0.2")


def told():
    """Object, change and way of each row of the page."""
    rows, name = [], ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            name = line[3:].lower()
        elif found := re.match(r"\| (.*?) \| (nothing|runtime|reload) \|", line):
            rows.append((name, *found.groups()))
    return rows


def beside(spec):
    """What the kernel is told."""
    return flows.render(spec, ()), nftables.render(spec), spec.vips, spec.enabled


def test_the_page_tells_the_way_of_every_change():
    rows = []
    for change in CHANGES:
        before, running = SPEC, afresh("start", SPEC, MACHINE).running
        for what, wanted in ((change.what, change.act(SPEC)), (change.back, SPEC)):
            plan = changes(running, replace(wanted, version=before.version + 1), MACHINE)
            is_told = beside(before) != beside(wanted)
            if what is not None:
                rows.append((change.object.lower(), what, "runtime" if is_told and plan.how == "nothing" else plan.how))
            before, running = wanted, plan.running
    assert told() == rows
