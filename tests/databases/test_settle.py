# SPDX-License-Identifier: Apache-2.0
"""When a wish counts as done, and what vanishes then."""

from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select

from statera.store.clock import now_ms
from statera.store.events import utc_now
from statera.store.settle import settle
from statera.store.tables import amphorae, listeners, load_balancers, managers, members, nodes, pools, tags

lb = load_balancers.c


@pytest.fixture
def fleet(store):
    """Nodes `heard` and `silent`."""
    with store.write() as connection:
        connection.execute(insert(managers).values(id="m", host="h", alive_until_ms=now_ms() + 10**7))
        connection.execute(insert(nodes).values(id="heard", name="heard", manager_id="m", created_at=utc_now()))
        connection.execute(insert(nodes).values(id="silent", name="silent", manager_id="left", created_at=utc_now()))


def amphora(load_balancer_id, node, applied, **facts):
    return {"id": str(uuid4()), "load_balancer_id": load_balancer_id, "role": "MASTER", "born_version": 1,
            "node_id": node, "applied_version": applied, "created_at": utc_now(), **facts}


def settled(store, id):
    with store.write() as connection:
        settle(connection, id)
    with store.read() as connection:
        return connection.execute(select(lb.done_version, lb.due_ms, lb.failure).where(lb.id == id)).one()


@pytest.mark.parametrize(("carried", "done"), [
    pytest.param([("heard", 7)], 7, id="the only amphora runs it"),
    pytest.param([("heard", 7), ("heard", 5)], 5, id="the slower one of a pair counts"),
    pytest.param([("heard", 7), ("silent", 2)], 7, id="a silent node is not waited for"),
    pytest.param([("silent", 7)], 2, id="with nobody to hear nothing is done"),
    pytest.param([], 2, id="without an amphora nothing is done"),
    pytest.param([("heard", 1)], 2, id="what is done stays done"),
    pytest.param([("heard", 9)], 7, id="no more is done than was wished"),
    pytest.param([(None, 6)], 6, id="an amphora that pretends"),
])
def test_done_is_what_every_reachable_amphora_runs(store, load_balancer, fleet, carried, done):
    id = load_balancer(version=7, infra_version=3, settled_version=3, done_version=2, due_ms=None)
    with store.write() as connection:
        for node, applied in carried:
            connection.execute(insert(amphorae).values(**amphora(id, node, applied)))
    assert settled(store, id) == (done, None, None)


def test_one_that_leaves_does_not_count(store, load_balancer, fleet):
    id = load_balancer(version=7, infra_version=3, settled_version=3)
    with store.write() as connection:
        connection.execute(insert(amphorae).values(**amphora(id, "heard", 7)))
        connection.execute(insert(amphorae).values(**amphora(id, "heard", 1, leaving=True)))
    assert settled(store, id).done_version == 7


def test_before_the_controller_has_looked_a_fact_only_asks_for_its_pass(store, load_balancer, fleet):
    id = load_balancer(version=7, infra_version=7, settled_version=6, due_ms=None)
    with store.write() as connection:
        connection.execute(insert(amphorae).values(**amphora(id, "heard", 7)))
    row = settled(store, id)
    assert row.done_version == 0
    assert row.due_ms is not None


def test_what_was_deleted_goes_with_its_children_and_tags(store, load_balancer, fleet):
    id = load_balancer(version=7, infra_version=3, settled_version=3, failure="no", failed_version=6)
    common = {"load_balancer_id": id, "project_id": "p", "created_at": utc_now(), "created_version": 1}
    with store.write() as connection:
        connection.execute(insert(amphorae).values(**amphora(id, "heard", 7)))
        for name, deleting in (("kept", False), ("going", True)):
            connection.execute(insert(pools).values(
                id=name, protocol="HTTP", lb_algorithm="ROUND_ROBIN", deleting=deleting, wanted_version=7, **common))
            connection.execute(insert(members).values(
                id=f"{name} member", pool_id=name, address="10.0.0.1", protocol_port=80, wanted_version=1, **common))
            connection.execute(insert(tags).values(resource_id=name, tag="t"))
        connection.execute(insert(listeners).values(
            id="l", protocol="HTTP", protocol_port=80, default_pool_id="going", wanted_version=7, timeout_client_data=1,
            timeout_member_connect=1, timeout_member_data=1, timeout_tcp_inspect=0, **common))
    assert settled(store, id) == (7, 1, None)
    with store.read() as connection:
        assert connection.execute(select(pools.c.id)).scalars().all() == ["kept"]
        assert connection.execute(select(members.c.id)).scalars().all() == ["kept member"]
        assert connection.execute(select(tags.c.resource_id)).scalars().all() == ["kept"]
        assert connection.execute(select(listeners.c.default_pool_id)).scalar_one() is None
        assert connection.execute(select(func.count()).select_from(load_balancers)).scalar_one() == 1
