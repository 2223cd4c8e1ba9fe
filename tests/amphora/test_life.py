# SPDX-License-Identifier: Apache-2.0
"""From a spec to traffic, and back to nothing."""

import time


def test_a_spec_becomes_traffic(lab, node):
    spec = lab.spec()
    node.carry(lab.network, spec.amphora_id)
    started = time.monotonic()
    applied = node.put(spec)
    answers = {lab.get()["who"] for _ in range(4)}
    print(f"\nput → traffic {time.monotonic() - started:.3f} s, agent's part {applied.seconds:.3f} s")
    assert applied.failure is None
    assert applied.how == "start"
    assert answers == {f"{lab.net}.10", f"{lab.net}.11"}
