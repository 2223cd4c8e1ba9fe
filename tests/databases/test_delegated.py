# SPDX-License-Identifier: Apache-2.0
"""What another provider's driver owes and answers, on every database."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from statera.model.providers import Debt
from statera.store import delegated, status, tables, wishes
from statera.store.adopted import State, find, hand_over, rest, set_state, take, take_back, wishes_since
from statera.store.adoption import Found
from statera.store.clock import now_ms
from statera.store.events import utc_now

LISTENER = {"project_id": "p", "protocol": "TCP", "protocol_port": 80, "timeout_client_data": 1,
            "timeout_member_connect": 1, "timeout_member_data": 1, "timeout_tcp_inspect": 0}


@pytest.fixture
def lb(store):
    """A load balancer of somebody else's with a listener, of which the driver has been told."""
    id, listener = str(uuid4()), str(uuid4())
    with store.write() as connection:
        wishes.add_load_balancer(connection, {"id": id, "project_id": "p", "provider": "vendor", "topology": "SINGLE"})
        wishes.add_rows(connection, tables.listeners, [{"id": listener, "load_balancer_id": id, **LISTENER}], version=1)
        delegated.asked(connection, id)
    return id, listener


def shown(store, table, id):
    lb = tables.load_balancers
    expression = status.provisioning_status(table)
    statement = select(expression).where(table.c.id == id)
    if table is not lb:
        statement = statement.join(lb, lb.c.id == table.c.load_balancer_id)
    with store.read() as connection:
        return connection.execute(statement).scalar_one()


def says(store, table, id, provisioning):
    with store.write() as connection:
        delegated.answer(connection, table, id, provisioning=provisioning, operating="ONLINE")


def debt(store, id, seconds=60):
    with store.read() as connection:
        return delegated.debt(connection, id, patience_seconds=seconds)


def test_each_object_is_done_when_its_driver_says_so(store, lb):
    id, listener = lb
    assert debt(store, id) is Debt.ANSWER
    says(store, tables.load_balancers, id, "ACTIVE")
    assert (shown(store, tables.load_balancers, id), shown(store, tables.listeners, listener)) == (
        "ACTIVE", "PENDING_CREATE")
    assert debt(store, id) is Debt.ANSWER
    says(store, tables.listeners, listener, "ACTIVE")
    assert shown(store, tables.listeners, listener) == "ACTIVE"
    assert debt(store, id) is Debt.NONE


def test_an_answer_that_never_comes_is_overdue_and_given_up_on(store, lb):
    id, listener = lb
    with store.write() as connection:
        connection.execute(update(tables.load_balancers).where(tables.load_balancers.c.id == id).values(
            asked_ms=now_ms() - 61_000))
    assert debt(store, id) is Debt.OVERDUE
    with store.write() as connection:
        delegated.give_up(connection, id, why="silence")
    assert debt(store, id) is Debt.NONE
    assert {shown(store, tables.load_balancers, id), shown(store, tables.listeners, listener)} == {"ERROR"}


def test_a_deleted_object_goes_with_its_tags(store, lb):
    _id, listener = lb
    with store.write() as connection:
        connection.execute(insert(tables.tags).values(resource_id=listener, tag="a"))
    says(store, tables.listeners, listener, "DELETED")
    with store.read() as connection:
        assert connection.execute(select(tables.listeners.c.id).where(tables.listeners.c.id == listener)).all() == []
        assert connection.execute(select(tables.tags).where(tables.tags.c.resource_id == listener)).all() == []


def test_totals_are_replaced(store, lb):
    _id, listener = lb
    for number in (1, 2):
        with store.write() as connection:
            delegated.count(connection, listener, dict.fromkeys(delegated.COUNTERS, number))
    kept = tables.listener_statistics
    with store.read() as connection:
        (row,) = connection.execute(select(kept).where(kept.c.listener_id == listener)).mappings()
    assert {row[name] for name in delegated.COUNTERS} == {2}


# Load balancers from another Octavia.


def strange(**values):
    id = str(uuid4())
    root = {"id": id, "project_id": "p", "provider": "amphora", "topology": "SINGLE", "created_at": utc_now(),
            "vip_sg_ids": [], "additional_vips": [], **values}
    listener = {"id": str(uuid4()), "load_balancer_id": id, "created_at": utc_now(), **LISTENER}
    rows = dict.fromkeys(("pools", "members", "health_monitors", "l7policies", "l7rules", "listener_statistics"), ())
    return Found(id=id, name="strange", project_id="p", provider=root["provider"], machines=({"compute_id": "c"},),
                 rows={**rows, "load_balancers": [root], "listeners": [listener],
                       "tags": [{"resource_id": listener["id"], "tag": "a"}]})


def test_one_that_came_is_held_moved_and_held_again(store):
    found = strange()
    for expected in ("added", "unchanged"):
        with store.write() as connection:
            assert take(connection, found, {}) == expected
    assert shown(store, tables.load_balancers, found.id) == "ACTIVE"
    with store.write() as connection:
        assert set_state(connection, found.id, State.MOVING, only_from=State.WAITING)
        assert not set_state(connection, found.id, State.MOVING, only_from=State.WAITING)
        hand_over(connection, found.id)
    assert shown(store, tables.load_balancers, found.id) == "PENDING_UPDATE"
    with store.write() as connection:
        lease = take_back(connection, found.id)
        rest(connection, found.id)
        (one,) = find(connection, found.id)
        assert wishes_since(connection, found.id) == 0
    assert (lease.load_balancer_id, one.state, one.runs, list(one.machines)) == (
        found.id, State.MOVING, True, [{"compute_id": "c"}])
    assert shown(store, tables.load_balancers, found.id) == "ACTIVE"


def test_one_that_changed_over_there_is_renewed_unless_it_has_moved(store):
    found = strange()
    changed = Found(**{name: getattr(found, name) for name in Found.__struct_fields__ if name != "rows"}, rows={
        **found.rows, "load_balancers": [{**found.rows["load_balancers"][0], "description": "changed"}]})
    with store.write() as connection:
        take(connection, found, {})
        assert take(connection, changed, {}) == "renewed"
        set_state(connection, found.id, State.MOVED, only_from=State.WAITING)
        assert take(connection, found, {}) == "taken"
