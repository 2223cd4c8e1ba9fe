# SPDX-License-Identifier: Apache-2.0
"""A load balancer is held by one worker at a time, and only that one can write to it."""

import multiprocessing

import pytest
from sqlalchemy import column, delete, func, insert, select, table, text, update

from statera.errors import LeaseLost
from statera.model.fleet import Role
from statera.store import passes
from statera.store.engine import Store
from statera.store.tables import amphorae, load_balancers

lb = load_balancers.c
HELD = table("held", column("id"))
PASSES = 40


def claim(store, owner="worker"):
    with store.write() as connection:
        return passes.claim(connection, owner, seconds=30)


def finish(store, lease, **outcome):
    with store.write() as connection:
        passes.finish(connection, lease, **({"settled": None, "again_seconds": None} | outcome))


def facts(store, id):
    with store.read() as connection:
        return connection.execute(select(load_balancers).where(lb.id == id)).one()


def the_lease_ends(store):
    with store.write() as connection:
        connection.execute(update(load_balancers).values(lease_until_ms=0, due_ms=1))


def test_what_is_held_is_not_given_out_again(store, load_balancer):
    id = load_balancer()
    assert claim(store).load_balancer_id == id
    assert claim(store) is None


def test_the_one_that_waited_longest_comes_first(store, load_balancer):
    late, early = load_balancer(due_ms=2), load_balancer(due_ms=1)
    assert [claim(store).load_balancer_id for _ in range(2)] == [early, late]


def test_a_worker_that_died_leaves_its_load_balancer_due_at_the_end_of_the_lease(store, load_balancer):
    id = load_balancer()
    claim(store)
    row = facts(store, id)
    assert row.due_ms == row.lease_until_ms
    with store.read() as connection:
        assert 25 < passes.next_due_seconds(connection) <= 30


def test_a_new_worker_ends_the_leases_of_dead_ones_on_its_host(store, load_balancer):
    dead, alive, elsewhere = load_balancer(), load_balancer(), load_balancer()
    owners = {claim(store, owner).load_balancer_id: owner for owner in ("here/7/a", "here/8/b", "there/7/c")}
    with store.write() as connection:
        assert passes.free_dead(connection, "here", lambda pid: pid == 8) == 1
    free = claim(store).load_balancer_id
    assert owners[free] == "here/7/a"
    assert {dead, alive, elsewhere} == set(owners)
    assert claim(store) is None


def test_after_the_pass_nobody_looks_again_unless_asked(store, load_balancer):
    id = load_balancer()
    finish(store, claim(store))
    assert facts(store, id).due_ms is None
    assert claim(store) is None


def test_a_wish_during_the_pass_leads_to_another_one(store, load_balancer):
    load_balancer()
    lease = claim(store)
    with store.write() as connection:
        connection.execute(update(load_balancers).values(due_ms=passes.now_ms()))
    with passes.fenced(store, lease):
        pass
    finish(store, lease)
    assert claim(store).token == lease.token + 1


def test_who_lost_the_lease_writes_nothing_any_more(store, load_balancer):
    id = load_balancer()
    stale = claim(store, "slow")
    the_lease_ends(store)
    current = claim(store, "quick")
    with pytest.raises(LeaseLost), passes.fenced(store, stale) as connection:
        passes.add_amphora(connection, id, Role.STANDALONE)
    with pytest.raises(LeaseLost):
        finish(store, stale)
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(amphorae)).scalar_one() == 0
    assert facts(store, id).lease_owner == "quick"
    finish(store, current)


def work(url, start, results):
    """One worker process: hold, write down that it holds, let go; *held* has a key, so two holders would collide."""
    store, held = Store(url), 0
    start.wait()
    while held < PASSES:
        lease = claim(store)
        if lease is None:
            continue
        with store.write() as connection:
            connection.execute(insert(HELD).values(id=lease.load_balancer_id))
        with store.write() as connection:
            connection.execute(delete(HELD).where(HELD.c.id == lease.load_balancer_id))
        finish(store, lease, again_seconds=0.0)
        held += 1
    store.close()
    results.put(held)


@pytest.fixture
def held_table(store):
    with store.write() as connection:
        connection.execute(text("CREATE TABLE held (id VARCHAR(36) PRIMARY KEY)"))
    yield
    with store.write() as connection:
        connection.execute(text("DROP TABLE held"))


def test_processes_that_claim_at_once_never_hold_the_same(store, load_balancer, held_table):
    for _ in range(4):
        load_balancer()
    forking = multiprocessing.get_context("fork")
    start, results = forking.Event(), forking.Queue()
    url = store.engine.url.render_as_string(hide_password=False)
    workers = [forking.Process(target=work, args=(url, start, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    assert [results.get(timeout=60) for _ in workers] == [PASSES] * 3
    for worker in workers:
        worker.join()
    with store.read() as connection:
        assert connection.execute(select(func.sum(lb.lease_token))).scalar_one() == 3 * PASSES
