# SPDX-License-Identifier: Apache-2.0
"""One object of every kind, for tests that go through all paths."""

import re
from datetime import datetime
from uuid import uuid4

from sqlalchemy import insert

from statera.api import app, openapi, operations
from statera.api.acts import Service
from statera.api.resources import amphorae
from statera.config import Settings
from statera.store import tables

SERVICE = Service(Settings(), None, None, None)
ROUTES = [*app.routes(SERVICE, forecast=lambda _load_balancer_id: []), *amphorae.routes(SERVICE)]
OPERATIONS = list(operations.operations(ROUTES))
"""Everything that the API can be asked."""


def path_of(operation, known):
    """The operation's whole path about the objects of *known*."""
    root = openapi.ROOT_OF.get(operation.kind, "/v2.0/lbaas")
    return root + re.sub(r"\{(\w+)\}", lambda found: known[found[1]], openapi.named(operation.path))


def furnished(world, project="a1b2c3d4e5f60718293a4b5c6d7e8f90"):
    """One object of every kind: the ids of each, by the names that paths and bodies call them; *project* owns them."""
    lb = world.lb(project_id=project)
    listener = world.listener(lb)
    pool = world.pool(lb)
    policy = world.policy(listener)
    rule = world.settled(world.post(f"/l7policies/{policy['id']}/rules", rule={
        "type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"})["rule"])
    profile = world.post("/flavorprofiles", flavorprofile={
        "name": project, "provider_name": "noop_driver", "flavor_data": "{}"})["flavorprofile"]
    zones = world.post("/availabilityzoneprofiles", availability_zone_profile={
        "name": project, "provider_name": "noop_driver", "availability_zone_data": "{}"})["availability_zone_profile"]
    flavor = world.post("/flavors", flavor={"name": project, "flavor_profile_id": profile["id"]})["flavor"]
    zone = world.post("/availabilityzones", availability_zone={
        "name": project, "availability_zone_profile_id": zones["id"]})["availability_zone"]
    return {
        "loadbalancer_id": lb["id"], "listener_id": listener["id"], "pool_id": pool["id"], "l7policy_id": policy["id"],
        "member_id": world.member(pool)["id"], "healthmonitor_id": world.monitor(pool)["id"], "rule_id": rule["id"],
        "flavorprofile_id": profile["id"], "flavor_profile_id": profile["id"], "flavor_id": flavor["id"],
        "availability_zone_profile_id": zones["id"], "availability_zone_name": zone["name"],
        "quota_id": lb["project_id"], "provider_name": "noop_driver", "redirect_pool_id": pool["id"],
        "default_pool_id": pool["id"], "amphora_id": amphora(world, lb),
    }


def amphora(world, lb):
    """An amphora that serves the load balancer and counted traffic."""
    id = str(uuid4())
    with world.store.write() as connection:
        connection.execute(insert(tables.amphorae).values(
            id=id, load_balancer_id=lb["id"], role="STANDALONE", born_version=1, ports=[], applied_version=1,
            created_at=datetime(2026, 8, 1)))
        connection.execute(insert(tables.listener_statistics).values(
            listener_id=str(uuid4()), amphora_id=id, load_balancer_id=lb["id"], bytes_in=1))
    return id
