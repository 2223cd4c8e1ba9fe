# SPDX-License-Identifier: Apache-2.0
"""An agent to be killed: carries one amphora and hurries through the specs of a file, again and again."""

import asyncio
import itertools
import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from statera.agent.host import Host
from statera.config import Settings
from statera.wire import LocalNetwork, Roster, Spec


class Orders(msgspec.Struct):
    network: LocalNetwork
    specs: list[Spec]


async def main(state: Path, orders: Orders) -> None:
    host = Host(Settings(), state, lambda _up: None)
    await host.start()
    (first, *_) = orders.specs
    await host.roster(Roster(amphorae=(first.amphora_id,), networks=(orders.network,)))
    print("ready", flush=True)
    newest = host.running().get(first.amphora_id, 0)
    for step, spec in enumerate(itertools.cycle(orders.specs), 1):
        await host.put(replace(spec, version=newest + step))
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Orders)))
