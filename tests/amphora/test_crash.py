# SPDX-License-Identifier: Apache-2.0
"""An agent that is killed in the middle of a change: nobody notices, and the next one ends where it should."""

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from statera.agent.files import Home
from statera.wire import ListenerSpec, Spec


def test_nobody_notices_an_agent_that_is_killed_again_and_again(lab, node, serving):
    extra = ListenerSpec(id="extra", protocol="HTTP", protocol_port=81, default_pool_id=serving.pools[0].id)
    specs = [replace(serving, pools=(replace(serving.pools[0], members=(lab.member(10 + n), lab.member(11 + n))),))
             for n in range(5)]
    specs.append(replace(specs[-1], listeners=(*serving.listeners, extra)))
    orders = lab.folder / "orders.json"
    orders.write_bytes(msgspec.json.encode({"network": lab.network, "specs": specs}))
    node.stop()
    seed = random.randrange(1_000_000)
    dice = random.Random(seed)
    print(f"\nseed {seed}")
    with lab.load(clients=4) as came:
        for _ in range(5):
            live_for(dice.uniform(0.0, 0.6), node.state, orders)
    assert set(came["outcome"]) == {"200"}, came
    stored = msgspec.json.decode(Home(node.state, serving.amphora_id).spec.read_bytes(), type=Spec)
    last = replace(specs[0], version=stored.version + 1)
    again = lab.host()
    assert again.host.running() == {serving.amphora_id: stored.version}
    assert again.put(last).failure is None
    assert {lab.get()["who"] for _ in range(6)} == {member.address for member in last.pools[0].members}


def live_for(seconds: float, state: Path, orders: Path) -> None:
    script = Path(__file__).with_name("agent.py")
    agent = subprocess.Popen([sys.executable, str(script), str(state), str(orders)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout
        assert agent.stdout.readline() == b"ready\n"
        time.sleep(seconds)
    finally:
        agent.kill()
        agent.wait()
        agent.stdout.close()
