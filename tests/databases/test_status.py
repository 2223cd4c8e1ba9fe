# SPDX-License-Identifier: Apache-2.0
"""The statuses in SQL are those of `model.status`, whatever the facts, on every database."""

from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from statera.model.status import Provisioning, provisioning_status
from statera.store import status
from statera.store.events import utc_now
from statera.store.tables import listeners, load_balancers

VERSIONS = st.integers(0, 6)
FAILED = st.none() | VERSIONS
OBJECT = st.fixed_dictionaries({
    "created_version": VERSIONS, "wanted_version": VERSIONS, "deleting": st.booleans(), "failed_version": FAILED,
})
LOAD_BALANCER = st.tuples(OBJECT, st.fixed_dictionaries({
    "done_version": VERSIONS, "deleted_at": st.sampled_from([None, utc_now()]),
    "provider": st.sampled_from(["amphora", "somebody-elses"]),
}))
CHILD = st.tuples(OBJECT, VERSIONS).map(lambda facts: {**facts[0], "answered_version": facts[1]})


def load_balancer_row(facts, own):
    return {"id": str(uuid4()), "project_id": "p", "topology": "SINGLE", "created_at": utc_now(), **facts, **own}


def listener_row(load_balancer_id, facts):
    return {"id": str(uuid4()), "load_balancer_id": load_balancer_id, "project_id": "p", "created_at": utc_now(),
            "protocol": "HTTP", "protocol_port": 80, "timeout_client_data": 1, "timeout_member_connect": 1,
            "timeout_member_data": 1, "timeout_tcp_inspect": 0, **facts}


def shown(row, lb):
    done = lb["done_version"] if row is lb or lb["provider"] == "amphora" else row["answered_version"]
    concerned = row is lb or lb["provider"] == "amphora" or done < row["wanted_version"]
    failed = [row["failed_version"], lb["failed_version"] if concerned else None]
    return provisioning_status(
        created=row["created_version"], wanted=row["wanted_version"], done=done,
        deleting=row["deleting"], failed=max((version for version in failed if version is not None), default=None),
        deleted=row is lb and lb["deleted_at"] is not None,
    )


@given(st.lists(st.tuples(LOAD_BALANCER, CHILD), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_and_python_derive_the_same_status(store, worlds):
    lbs = [load_balancer_row(facts, own) for (facts, own), _ in worlds]
    children = [listener_row(lb["id"], facts) for lb, (_, facts) in zip(lbs, worlds, strict=True)]
    with store.write() as connection:
        connection.execute(delete(load_balancers))
        connection.execute(insert(load_balancers), lbs)
        connection.execute(insert(listeners), children)
        found = {
            row.id: (row.lb, row.listener) for row in connection.execute(
                select(load_balancers.c.id, status.provisioning_status(load_balancers).label("lb"),
                       status.provisioning_status(listeners).label("listener"))
                .join(listeners, listeners.c.load_balancer_id == load_balancers.c.id))
        }
    for lb, child in zip(lbs, children, strict=True):
        assert found[lb["id"]] == (shown(lb, lb), shown(child, lb))


LIVED = st.fixed_dictionaries({
    "wanted": st.integers(1, 5), "later": st.integers(0, 2), "created": st.integers(1, 5), "done": VERSIONS,
    "failed": FAILED, "deleting": st.booleans()})


@given(st.lists(LIVED, min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_filter_implies_hides_nobody(store, lives):
    """Of load balancers whose newest version is that of a wish or one after it."""
    rows = [load_balancer_row({
        "created_version": min(life["created"], life["wanted"]), "wanted_version": life["wanted"],
        "deleting": life["deleting"], "failed_version": life["failed"]}, {
        "version": life["wanted"] + life["later"], "done_version": life["done"], "provider": "amphora",
        "deleted_at": None}) for life in lives]
    lb = status.provisioning_status(load_balancers)
    with store.write() as connection:
        connection.execute(delete(load_balancers))
        connection.execute(insert(load_balancers), rows)
        for word in map(str, Provisioning):
            wanted = set(connection.execute(select(load_balancers.c.id).where(lb == word)).scalars())
            implied = status.implied(load_balancers, [("provisioning_status", word)])
            assert set(connection.execute(select(load_balancers.c.id).where(lb == word, *implied)).scalars()) == wanted
