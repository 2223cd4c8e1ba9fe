# SPDX-License-Identifier: Apache-2.0
"""Another flavor for a load balancer that serves: what is accepted, what is refused, what follows."""

import json

import pytest
from sqlalchemy import select

from statera.store.tables import load_balancers


@pytest.fixture
def flavor(world):
    """Makes a flavor from what its profile says."""
    def make(name, provider="amphora", *, enabled=True, **data):
        profile = world.post("/flavorprofiles", flavorprofile={
            "name": name, "provider_name": provider, "flavor_data": json.dumps(data)})["flavorprofile"]
        return world.post("/flavors", flavor={
            "name": name, "flavor_profile_id": profile["id"], "enabled": enabled})["flavor"]["id"]

    return make


def resize(world, lb, flavor_id):
    return world.call("PUT", f"/loadbalancers/{lb['id']}/flavor", {"flavor": {"flavor_id": flavor_id}})


def row(world, lb):
    with world.store.read() as connection:
        return connection.execute(select(load_balancers).where(load_balancers.c.id == lb["id"])).one()


def test_the_flavor_and_what_follows_from_it_change(world, flavor):
    lb, pair = world.lb(), flavor("pair", loadbalancer_topology="ACTIVE_STANDBY")
    before = row(world, lb)
    assert resize(world, lb, pair).status_code == 202
    after = row(world, lb)
    assert (after.flavor_id, after.topology) == (pair, "ACTIVE_STANDBY")
    assert after.infra_version == after.version == before.version + 1
    assert after.vip_address == before.vip_address


@pytest.mark.parametrize(("make", "status", "fault"), [
    pytest.param({"name": "off", "enabled": False}, 400, "is not allowed in this deployment", id="disabled"),
    pytest.param({"name": "else", "provider": "noop_driver"}, 400, "is not compatible with provider", id="not its"),
])
def test_flavors_that_do_not_fit_are_refused(world, flavor, make, status, fault):
    lb = world.lb()
    answer = resize(world, lb, flavor(**make))
    assert answer.status_code == status
    assert fault in answer.json["faultstring"]
    assert row(world, lb).flavor_id is None


def test_an_unknown_flavor_is_refused(world):
    answer = resize(world, world.lb(), "00000000-0000-4000-8000-000000000000")
    assert (answer.status_code, "Invalid flavor_id." in answer.json["faultstring"]) == (400, True)
