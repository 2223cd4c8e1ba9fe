# SPDX-License-Identifier: Apache-2.0
"""No change breaks a connection but those that it is about; docs/reference/live-changes.md says which way it takes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from amphora import live_page
from amphora.changes import CHANGES, KINDS, MEMBER_PORT, everything
from amphora.conftest import end
from msgspec.structs import replace

SAMPLE = {
    ("load balancer", "several of these at once"), ("listener", "created"), ("listener", "timeout_client_data"),
    ("TLS of a listener", "certificate renewed"), ("TLS of a listener", "alpn_protocols"), ("member", "added"),
    ("member", "UDP: weight: 0"), ("member", "weight: 0"), ("health monitor", "delay"), ("l7policy", "action"),
    ("l7rule", "value"), ("pool", "session_persistence"),
}
"""What is tried each time; script/live-changes tries all, and writes the page."""
PAGE = os.environ.get("LIVE_CHANGES_PAGE")


@contextlib.contextmanager
def traffic(ip, each):
    """All kinds of clients; call it for what came of them since the last time."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-m", "amphora.traffic", ip, str(each)], env=environment,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def counted():
        child.stdin.write(b"\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    try:
        assert child.stdout.readline() == b"ready\n"
        yield counted
    finally:
        end(child)


def flows(counted):
    """Wait until each kind has been served again, so that none is missed."""
    seen = dict.fromkeys(KINDS, 0)
    broken = dict.fromkeys(KINDS, 0)
    why, until = {}, time.monotonic() + 20
    while min(seen.values()) < 5 and time.monotonic() < until:
        time.sleep(0.05)
        for kind, came in counted().items():
            seen[kind] += came["done"]
            broken[kind] += came["broken"]
            why |= {kind: came["why"]} if came["why"] else {}
    assert min(seen.values()) >= 5, (seen, why)
    return seen, broken, why


def test_changes_break_only_what_they_are_about(lab, node, wait_until):
    spec = everything(lab.spec(), lab.net)
    lab.start_streams(MEMBER_PORT)
    node.carry(lab.network, spec.amphora_id)
    assert node.put(spec).failure is None
    version, rows = 1, []
    with traffic(lab.vip, 3) as counted:
        flows(counted)
        for change in CHANGES:
            if not PAGE and (change.object, change.what) not in SAMPLE:
                continue
            for what, wanted in ((change.what, change.act(spec)), (change.back, spec)):
                version += 1
                applied = node.put(replace(wanted, version=version))
                assert applied.failure is None, (change, applied)
                if change.breaks and wanted is not spec:
                    time.sleep(0.3)
                    came = counted()
                    seen, broken = ({kind: came[kind][word] for kind in KINDS} for word in ("done", "broken"))
                    why = {}
                else:
                    seen, broken, why = flows(counted)
                if what is not None:
                    rows.append(live_page.Row(
                        object=change.object, what=what, way=applied.how, milliseconds=applied.seconds * 1000,
                        served=sum(seen.values()), broken=broken, breaks=change.breaks))
                unexpected = {kind: (count, why.get(kind)) for kind, count in broken.items()
                              if count and kind not in change.breaks}
                print(f"{change.object}: {what}: {applied.how}, {applied.seconds * 1000:.0f} ms, {broken}")
                assert not unexpected or PAGE, (change.object, what, unexpected)
    if PAGE:
        Path(PAGE).write_text(live_page.page(rows))
