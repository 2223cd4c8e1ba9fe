# SPDX-License-Identifier: Apache-2.0
"""The budget of replacements on each database, and what becomes due when nodes come and go."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, insert, literal, select, update

from statera.config import ControllerWorker
from statera.controller.queue import Queue
from statera.controller.world import World
from statera.drivers.compute.hosts import Hosts
from statera.drivers.network.noop import NoopNetwork
from statera.store import budget, nodes, passes, reports, tables
from statera.store.events import utc_now
from statera.wire import Hello


@pytest.fixture(autouse=True)
def _nothing_spent(store):
    with store.write() as connection:
        connection.execute(delete(tables.budgets))


def spend(store, *, per_minute, reserve=0.0):
    with store.write() as connection:
        return budget.spend(connection, per_minute=per_minute, reserve=reserve)


def left(store):
    with store.read() as connection:
        return budget.left(connection, per_minute=3)


def test_of_two_workers_that_begin_at_once_one_looks_again(store):
    with store.write() as connection:
        assert budget._begin(connection, literal(5))
        assert not budget._begin(connection, literal(7))
        assert connection.execute(select(tables.budgets.c.spent_until_ms)).scalar_one() == 5


def test_so_many_at_once_and_then_no_more(store):
    assert left(store) == 1
    assert [spend(store, per_minute=3) for _ in range(4)] == [True, True, True, False]
    assert left(store) < 0


def test_what_is_less_urgent_leaves_the_rest_alone(store):
    assert [spend(store, per_minute=4, reserve=0.5) for _ in range(3)] == [True, True, False]
    assert [spend(store, per_minute=4) for _ in range(3)] == [True, True, False]


def test_time_wins_it_back(store):
    assert [spend(store, per_minute=2) for _ in range(3)] == [True, True, False]
    with store.write() as connection:
        connection.execute(update(tables.budgets).values(
            spent_until_ms=tables.budgets.c.spent_until_ms - budget.MINUTE_MS // 2))
    assert [spend(store, per_minute=2) for _ in range(2)] == [True, False]


def test_no_limit(store):
    assert all(spend(store, per_minute=0) for _ in range(10))
    assert left(store) == 1


def test_many_workers_together_do_not_spend_more(store):
    spend(store, per_minute=10)
    with ThreadPoolExecutor(8) as pool:
        spent = list(pool.map(lambda _: spend(store, per_minute=10), range(40)))
    assert sum(spent) == 9


def carry(store, lb_id, node_id, amphora_id, **values):
    with store.write() as connection:
        connection.execute(insert(tables.amphorae).values(
            id=amphora_id, load_balancer_id=lb_id, role="MASTER", born_version=1, node_id=node_id,
            created_at=utc_now(), ports=[], **values))


def node(store, name):
    with store.write() as connection:
        return nodes.ensure(connection, name)


def due(store, lb_id):
    with store.read() as connection:
        row = tables.load_balancers.c
        return connection.execute(select(row.due_ms).where(row.id == lb_id)).scalar_one() is not None


def test_a_new_node_has_crowded_pairs_looked_at(store, load_balancer):
    crowded, spread = load_balancer(due_ms=None), load_balancer(due_ms=None)
    here, there = node(store, "here"), node(store, "there")
    for lb_id, homes in ((crowded, (here, here)), (spread, (here, there))):
        for number, home in enumerate(homes):
            carry(store, lb_id, home, f"{lb_id[:8]}-{number}")
    with store.write() as connection:
        reports.alive(connection, "hm", "host", 60)
        reports.connected(connection, "hm", there, Hello(agent_version="1"))
    assert (due(store, crowded), due(store, spread)) == (True, False)


def test_a_lost_node_goes_with_what_it_may_still_run_but_not_with_what_nobody_has_taken_over(store, load_balancer):
    lb_id, dead = load_balancer(due_ms=None), node(store, "dead")
    carry(store, lb_id, dead, "old", leaving=True)
    carry(store, lb_id, dead, "unreplaced")
    with store.write() as connection:
        reports.give_up(connection, "dead")
    with store.write() as connection, pytest.raises(nodes.Refused, match="still carries 1 amphorae"):
        nodes.remove(connection, "dead")
    with store.write() as connection:
        passes.forget_amphora(connection, "unreplaced")
    with store.write() as connection:
        nodes.remove(connection, "dead")
    assert due(store, lb_id)


def worker(store, **options):
    world = World(store=store, compute=Hosts(), network=NoopNetwork(), **options)
    return Queue(world, ControllerWorker(), owner="test")


def told(store, lb_id):
    events = tables.events.c
    with store.read() as connection:
        return list(connection.execute(
            select(events.reason).where(events.load_balancer_id == lb_id).order_by(events.id)).scalars())


def test_who_waits_for_the_budget_is_told_once_and_again_when_its_turn_comes(store, load_balancer):
    dead, spare = node(store, "dead"), node(store, "spare")
    first, second = (load_balancer(done_version=1, settled_version=1) for _ in range(2))
    for lb_id in (first, second):
        carry(store, lb_id, dead, f"{lb_id[:8]}-a", applied_version=1)
    with store.write() as connection:
        connection.execute(update(tables.amphorae).values(role="STANDALONE"))
        reports.alive(connection, "hm", "host", 60)
        reports.connected(connection, "hm", spare, Hello(agent_version="1"))
        reports.give_up(connection, "dead")
    queue = worker(store, replacements_per_minute=1)
    for _ in range(4):
        queue.run_once()
    assert sorted(reason for lb_id in (first, second) for reason in told(store, lb_id)) == [
        "budget_spent", "node_lost", "node_lost", "replacement_begun"]
    [waiting] = [lb_id for lb_id in (first, second) if "budget_spent" in told(store, lb_id)]
    with store.write() as connection:
        connection.execute(update(tables.budgets).values(spent_until_ms=0))
        connection.execute(update(tables.load_balancers).values(due_ms=1))
    for _ in range(4):
        queue.run_once()
    assert told(store, waiting) == ["node_lost", "budget_spent", "replacement_begun"]
