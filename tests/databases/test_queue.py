# SPDX-License-Identifier: Apache-2.0
"""Workers at work: what is due gets its pass at once, failures are said and repeated, stopping loses nothing."""

import statistics
import threading
import time
from contextlib import contextmanager

from counted import statements
from sqlalchemy import event, func, select, update

from statera.config import ControllerWorker
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.network.noop import NoopNetwork
from statera.errors import GiveUp, TryAgain
from statera.model.status import Provisioning
from statera.store import status
from statera.store.clock import now_ms
from statera.store.engine import Store
from statera.store.tables import amphorae, events, load_balancers
from statera.store.wake import announce

lb = load_balancers.c
HASTY = ControllerWorker(retry_first_seconds=0.01, retry_max_seconds=0.02, error_after_attempts=3)


@contextmanager
def working(store, *, settings=HASTY, compute=None, network=None):
    world = World(store=store, compute=compute or NoopCompute(), network=network or NoopNetwork())
    queue = Queue(world, settings, owner="test")
    queue.start()
    try:
        yield queue
    finally:
        queue.stop()


def await_status(store, id, wanted):
    until = time.monotonic() + 20
    while shown(store, id) != wanted:
        assert time.monotonic() < until, f"still {shown(store, id)}"
        threading.Event().wait(0.005)


def shown(store, id):
    with store.read() as connection:
        return connection.execute(select(status.provisioning_status(load_balancers)).where(lb.id == id)).scalar_one()


def reasons(store, id):
    with store.read() as connection:
        mine = select(events.c.reason, events.c.attempt).where(events.c.load_balancer_id == id)
        return [tuple(row) for row in connection.execute(mine.order_by(events.c.id))]


def wish(store, id, **values):
    with store.write() as connection:
        connection.execute(update(load_balancers).where(lb.id == id).ordered_values(
            (lb.infra_version, lb.version + 1), (lb.wanted_version, lb.version + 1), (lb.version, lb.version + 1),
            (lb.due_ms, now_ms()), *((lb[name], value) for name, value in values.items())))
        announce(connection)


class Failing(NoopNetwork):
    """A network that refuses until it is mended."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def ensure_amphora_port(self, amphora_id, subnet_id, vips=(), *, berth=None):
        if self.error:
            raise self.error
        return super().ensure_amphora_port(amphora_id, subnet_id, vips)


class Timed(NoopNetwork):
    def __init__(self):
        super().__init__()
        self.called = []

    def ensure_amphora_port(self, amphora_id, subnet_id, vips=(), *, berth=None):
        self.called.append(time.monotonic())
        return super().ensure_amphora_port(amphora_id, subnet_id, vips)


class Slow(NoopNetwork):
    """A network that takes its time, until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.called, self.go_on = threading.Event(), threading.Event()

    def ensure_amphora_port(self, amphora_id, subnet_id, vips=(), *, berth=None):
        self.called.set()
        self.go_on.wait(20)
        return super().ensure_amphora_port(amphora_id, subnet_id, vips)


def test_a_wish_starts_a_pass_at_once(store, load_balancer):
    network, seconds = Timed(), []
    with working(store, network=network):
        for _ in range(10):
            threading.Event().wait(0.03)
            id = load_balancer()
            committed = time.monotonic()
            await_status(store, id, Provisioning.ACTIVE)
            seconds.append(network.called[-1] - committed)
    print(f"\n{store.backend}: first step {1000 * statistics.median(seconds):.0f} ms after the wish (median of 10)")
    assert statistics.median(seconds) < 0.2


def test_a_load_balancer_comes_and_goes(store, load_balancer):
    id = load_balancer(topology="ACTIVE_STANDBY")
    with working(store):
        await_status(store, id, Provisioning.ACTIVE)
        wish(store, id, failover_version=2)
        await_status(store, id, Provisioning.ACTIVE)
        wish(store, id, deleting=True)
        await_status(store, id, Provisioning.DELETED)
    with store.read() as connection:
        left = select(func.count()).select_from(amphorae).where(amphorae.c.deleted_at.is_(None))
        assert connection.execute(left).scalar_one() == 0


def test_two_workers_share_a_hundred_load_balancers(store, load_balancer):
    ids = [load_balancer() for _ in range(100)]
    other = Store(store.engine.url.render_as_string(hide_password=False))
    began = time.monotonic()
    with working(store), working(other):
        for id in ids:
            await_status(store, id, Provisioning.ACTIVE)
    print(f"\n{store.backend}: 100 load balancers in {time.monotonic() - began:.2f} s")
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(amphorae)).scalar_one() == 100
    other.close()


def test_what_may_pass_is_shown_as_error_after_some_attempts_and_mends_itself(store, load_balancer):
    network = Failing(TryAgain("subnet_full", "no free address in subnet 42"))
    id = load_balancer()
    with working(store, network=network):
        await_status(store, id, Provisioning.ERROR)
        with store.read() as connection:
            assert connection.execute(select(lb.failure)).scalar_one() == "no free address in subnet 42"
        network.error = None
        await_status(store, id, Provisioning.ACTIVE)
    assert reasons(store, id)[:2] == [("subnet_full", 1), ("subnet_full", 2)]
    with store.read() as connection:
        assert connection.execute(select(lb.failure, lb.failed_version, lb.attempts)).one() == (None, None, 0)


def test_what_will_not_pass_is_an_error_at_once(store, load_balancer):
    id = load_balancer()
    slow = ControllerWorker(retry_first_seconds=0.01, retry_max_seconds=60.0)
    with working(store, settings=slow, network=Failing(GiveUp("quota", "the cloud's quota is used up"))):
        await_status(store, id, Provisioning.ERROR)
    assert reasons(store, id) == [("quota", 1)]


def test_a_bug_concerns_one_load_balancer_only(store, load_balancer):
    ill, well = load_balancer(topology="NONSENSE"), load_balancer()
    with working(store):
        await_status(store, well, Provisioning.ACTIVE)
        await_status(store, ill, Provisioning.ERROR)
    assert reasons(store, ill)[0] == ("internal_error", 1)


def test_without_a_node_the_event_says_what_to_do(store, load_balancer):
    id = load_balancer()
    with working(store, compute=Hosts()):
        await_status(store, id, Provisioning.ERROR)
    with store.read() as connection:
        message = connection.execute(select(events.c.message).limit(1)).scalar_one()
    assert "0 enrolled, 0 connected" in message


def test_stopping_ends_the_step_and_hands_back_the_rest(store, load_balancer):
    id, network = load_balancer(topology="ACTIVE_STANDBY"), Slow()
    with working(store, network=network) as queue:
        assert network.called.wait(20)
        stopping = threading.Thread(target=queue.stop)
        stopping.start()
        threading.Event().wait(0.05)
        network.go_on.set()
        stopping.join(20)
        with store.read() as connection:
            row = connection.execute(select(lb.lease_owner, lb.lease_until_ms, lb.due_ms)).one()
    assert (row.lease_owner, row.lease_until_ms) == (None, 0)
    assert row.due_ms is not None
    with working(store):
        await_status(store, id, Provisioning.ACTIVE)


def test_a_pass_over_a_settled_load_balancer_takes_three_short_transactions(store, load_balancer):
    id = load_balancer()
    queue = Queue(World(store=store, compute=NoopCompute(), network=NoopNetwork()), HASTY, owner="test")
    queue.run_once()
    with store.write() as connection:
        connection.execute(update(load_balancers).values(due_ms=1))
    said, transactions = [], []
    event.listen(store.engine, "begin", transactions.append)
    spoken = statements(store.engine, lambda: said.append(queue.run_once()))
    assert said == [f"load balancer {id}: settled"]
    print(f"\n{store.backend}: {len(spoken)} statements in {len(transactions)} transactions")
    assert len(transactions) == 4  # is one due, claim, look, finish
    assert len(spoken) <= 19
    assert [statement.split()[0] for statement in spoken].count("UPDATE") == 2


def test_an_upkeep_that_fails_is_no_error_of_the_wish(store, load_balancer):
    id = load_balancer()
    with working(store):
        await_status(store, id, Provisioning.ACTIVE)
    with store.write() as connection:
        connection.execute(update(load_balancers).values(due_ms=1))
        connection.execute(update(amphorae).values(ports=[]))
    with working(store, network=Failing(GiveUp("neutron", "no"))):
        until = time.monotonic() + 10
        while not reasons(store, id):
            assert time.monotonic() < until
            threading.Event().wait(0.01)
    assert shown(store, id) == Provisioning.ACTIVE
