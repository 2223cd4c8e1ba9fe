# SPDX-License-Identifier: Apache-2.0
"""What waits to be said is said once, in order, and as it is now."""

import asyncio

import pytest

from statera.agent.outbox import Outbox
from statera.wire import Applied, Gone, Renew, Report


def report(full=False, **words):
    return Report(amphora_id="a", full=full, **words)


def applied(version, failure=None):
    return Applied(amphora_id="a", version=version, failure=failure)


@pytest.mark.parametrize(("put", "said"), [
    pytest.param([report(members={"m": "UP"}), report(members={"n": "UP"})], [report(members={"m": "UP", "n": "UP"})],
                 id="two reports become one"),
    pytest.param([report(vrrp="MASTER"), report(members={"n": "UP"})], [report(vrrp="MASTER", members={"n": "UP"})],
                 id="who holds the VIP is not forgotten"),
    pytest.param([report(members={"m": "UP"}), report(full=True)], [report(full=True)], id="a full one says it all"),
    pytest.param([report(full=True, members={"m": "UP"}), report(members={"m": "DOWN"})],
                 [report(full=True, members={"m": "DOWN"})], id="a change after a full one"),
    pytest.param([applied(1), applied(2)], [applied(2)], id="the newest version that runs"),
    pytest.param([applied(1), applied(2, "no")], [applied(1), applied(2, "no")],
                 id="a failure does not hide what runs"),
    pytest.param([Gone(amphora_id="a"), Renew(csr="x"), Renew(csr="y")], [Gone(amphora_id="a"), Renew(csr="y")],
                 id="one renewal"),
])
def test_what_is_said(put, said):
    async def story():
        outbox = Outbox()
        for message in put:
            outbox.put(message)
        return [await outbox.take() for _ in said], outbox

    async def rest(outbox):
        async with asyncio.timeout(0.01):
            await outbox.take()

    taken, outbox = asyncio.run(story())
    assert taken == said
    with pytest.raises(TimeoutError):
        asyncio.run(rest(outbox))


def test_reports_are_dropped_before_full_ones_are_made():
    outbox = Outbox()
    outbox.put(report(members={"m": "UP"}))
    outbox.put(applied(1))
    outbox.drop_reports()
    assert asyncio.run(outbox.take()) == applied(1)
