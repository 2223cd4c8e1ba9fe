# SPDX-License-Identifier: Apache-2.0
"""Every verb of every path, asked by every role about what is its project's, another's and nobody's."""

import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from furniture import OPERATIONS, furnished, path_of

OWN, FOREIGN, NOBODYS = "a" * 32, "f" * 32, "00000000-0000-0000-0000-00000000dead"
SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"

READER = {"read": "own", "list members": "own", "read quota": "own", "look": "any"}
MEMBER = READER | {"write": "own"}
EVERYTHING = dict.fromkeys(("read", "list members", "read quota", "look", "write", "write quota", "admin"), "any")
ROLES = {
    "": {},
    "stranger": {},
    "reader": READER,
    "member": MEMBER,
    "admin": EVERYTHING,
    "service": {"list members": "any"},
}
OLD_ROLES = {
    "load-balancer_observer": READER,
    "load-balancer_global_observer": dict.fromkeys(READER, "any"),
    "load-balancer_member": MEMBER,
    "load-balancer_quota_admin": {"read quota": "any", "write quota": "any"},
    "load-balancer_admin": EVERYTHING,
}
"""Role: what it may do, and to whose objects. The old ones count where enforce_new_defaults is off."""

NEEDS = {
    "loadbalancer:put_failover": "admin", "member:get_all": "list members",
    "quota:get_all": "read quota", "quota:get_one": "read quota", "quota:get_defaults": "read quota",
    "quota:put": "write quota", "quota:delete": "write quota",
    "provider:get_all": "look", "flavor:get_all": "look", "flavor:get_one": "look",
    "availability-zone:get_all": "look", "availability-zone:get_one": "look",
}
TREE = ("loadbalancer", "listener", "pool", "member", "healthmonitor", "l7policy", "rule")
LOOKED_UP_FIRST = {"amphora:get_one", "amphora:put_failover", "amphora:put_config"}
"""Of what only administrators may do: here an unknown id is told before access is refused."""
ANSWERS = {("flavor-profile:post", "unknown"): 201, ("availability-zone-profile:post", "unknown"): 201,
           ("amphora:delete", "own"): 409, ("amphora:delete", "foreign"): 409,
           ("quota:get_one", "unknown"): 200, ("quota:get_defaults", "unknown"): 200, ("quota:put", "unknown"): 202,
           ("provider-flavor:get_all", "unknown"): 400, ("provider-availability-zone:get_all", "unknown"): 400}
"""Where what is allowed ends otherwise than in the operation's own status, or in 404 for the unknown."""


def need(operation):
    """What the caller has to be allowed."""
    if operation.policy in NEEDS:
        return NEEDS[operation.policy]
    if operation.kind not in TREE:
        return "admin"
    return "write" if operation.writes else "read"


def is_list(operation):
    """Whether the request names a project instead of an object: lists, and the POST of a load balancer."""
    return "{" not in operation.path and (operation.verb == "get" or operation.kind == "loadbalancer")


def expected(operation, allowed, target):
    """The status of the answer."""
    scope = allowed.get(need(operation))
    may = scope == "any" or (scope == "own" and target == "own")
    if is_list(operation):
        return operation.status if may else 403
    if operation.kind in TREE or operation.policy in LOOKED_UP_FIRST:
        return 404 if target == "unknown" else operation.status if may else 403
    if not may:
        return 403
    return ANSWERS.get((operation.policy, target), 404 if target == "unknown" else operation.status)


def body_of(operation, known, project):
    """A good body, about the objects of *known*."""
    if operation.body is None:
        return None
    (root,) = operation.body["properties"]
    if operation.path in BY_PATH:
        return {root: BY_PATH[operation.path](known)}
    return {root: WHOLE[root](known, project) if operation.verb == "post" else CHANGE.get(root, {"name": "new"})}


WHOLE = {
    "loadbalancer": lambda known, project: {"vip_subnet_id": SUBNET, "project_id": project},
    "listener": lambda known, project: {
        "loadbalancer_id": known["loadbalancer_id"], "protocol": "HTTP", "protocol_port": 8080},
    "pool": lambda known, project: {
        "loadbalancer_id": known["loadbalancer_id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"},
    "member": lambda known, project: {"address": "192.0.2.9", "protocol_port": 80},
    "healthmonitor": lambda known, project: {
        "pool_id": known["free_pool_id"], "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1},
    "l7policy": lambda known, project: {"listener_id": known["listener_id"], "action": "REJECT"},
    "rule": lambda known, project: {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"},
    "flavor": lambda known, project: {"name": "n", "flavor_profile_id": known["flavorprofile_id"]},
    "flavorprofile": lambda known, project: {"name": "n", "provider_name": "noop_driver", "flavor_data": "{}"},
    "availability_zone": lambda known, project: {
        "name": "n", "availability_zone_profile_id": known["availability_zone_profile_id"]},
    "availability_zone_profile": lambda known, project: {
        "name": "n", "provider_name": "noop_driver", "availability_zone_data": "{}"},
}
BY_PATH = {"/loadbalancers/{id}/flavor": lambda known: {"flavor_id": known["flavor_id"]}}
CHANGE = {"members": [], "log_target": {"url": "tcp://192.0.2.1:514"},
          "quota": {"pool": 5}, "rule": {"value": "/y"}, "availability_zone": {"description": "new"}}


@pytest.fixture(params=[True, False], ids=["new defaults", "older roles too"])
def modern(request):
    return request.param


@pytest.fixture
def world(worlds, modern):
    made = worlds(api_settings={"auth_strategy": "testing", "default_provider_driver": "noop_driver"},
                  oslo_policy={"enforce_new_defaults": modern})
    made.headers = headers("admin", OWN)
    return made


def headers(role, project):
    return {"X-Roles": role, "X-Project-Id": project, "X-User-Id": "someone"}


def full(world, project):
    """A project with one of everything, a pool without monitor, a quota of its own and nothing that is in use."""
    known = furnished(world, project)
    known["free_pool_id"] = world.pool({"id": known["loadbalancer_id"]})["id"]
    unused = furnished_catalogue(world, project)
    world.call("PUT", f"/quotas/{project}", {"quota": {"pool": 50}})
    return known | unused


def furnished_catalogue(world, project):
    """Profiles that nothing uses, so that they can be deleted."""
    flavor = world.post("/flavorprofiles", flavorprofile=WHOLE["flavorprofile"]({}, project))["flavorprofile"]
    zone = world.post("/availabilityzoneprofiles", availability_zone_profile=WHOLE["availability_zone_profile"](
        {}, project))["availability_zone_profile"]
    return {"flavorprofile_id": flavor["id"], "availability_zone_profile_id": zone["id"]}


class Saved:
    """What the database holds now, to go back to."""

    def __init__(self, world):
        self.world, self.copy = world, sqlite3.connect(":memory:", check_same_thread=False)
        with closing(world.store.engine.raw_connection()) as raw:
            raw.driver_connection.backup(self.copy)

    def restore(self):
        with closing(self.world.store.engine.raw_connection()) as raw:
            self.copy.backup(raw.driver_connection)


def ask(world, operation, known, project):
    """The status of one request."""
    query = {"project_id": project} if is_list(operation) and operation.kind in (*TREE, "quota") else {}
    query = query if operation.verb == "get" and project != OWN else {}
    if (operation.verb, operation.path) == ("delete", "/loadbalancers/{id}"):
        query = {"cascade": "true"}
    return world.call(operation.verb.upper(), path_of(operation, known), body_of(operation, known, project), root="",
                      query=query).status_code


def test_nobody_gets_at_what_is_not_theirs(world, modern):
    targets = {"own": (full(world, OWN), OWN), "foreign": (full(world, FOREIGN), FOREIGN)}
    targets["unknown"] = (dict.fromkeys(targets["own"][0], NOBODYS), NOBODYS)
    saved, wrong, cells = Saved(world), [], Counter()
    roles = ROLES | (OLD_ROLES if not modern else {key: {} for key in OLD_ROLES})
    for role, allowed in roles.items():
        world.headers = headers(role, OWN)
        for operation in OPERATIONS:
            for target, (known, project) in targets.items():
                due = expected(operation, allowed, target)
                found = ask(world, operation, known, project)
                cells[due] += 1
                if found != due:
                    wrong.append((role, operation.verb, operation.path, target, f"{found} instead of {due}"))
                if operation.writes and found < 300:
                    saved.restore()
    print(f"\n{len(roles)} roles × {len(OPERATIONS)} verbs of paths × {len(targets)} owners = {cells.total()} requests,"
          f" due: {dict(sorted(cells.items()))}")
    assert wrong == []


REFERENCES = {
    "a default pool": ("POST", "/listeners", lambda own, foreign: {"listener": {
        **WHOLE["listener"](own, OWN), "default_pool_id": foreign["pool_id"]}}, 404),
    "a new default pool": ("PUT", "/listeners/{listener_id}", lambda own, foreign: {"listener": {
        "default_pool_id": foreign["pool_id"]}}, 404),
    "a redirect pool": ("POST", "/l7policies", lambda own, foreign: {"l7policy": {
        "listener_id": own["listener_id"], "action": "REDIRECT_TO_POOL", "redirect_pool_id": foreign["pool_id"]}}, 404),
    "a new redirect pool": ("PUT", "/l7policies/{l7policy_id}", lambda own, foreign: {"l7policy": {
        "redirect_pool_id": foreign["pool_id"]}}, 404),
    "a pool's listener": ("POST", "/pools", lambda own, foreign: {"pool": {
        **WHOLE["pool"](own, OWN), "listener_id": foreign["listener_id"]}}, 404),
    "a pool's listener alone": ("POST", "/pools", lambda own, foreign: {"pool": {
        "listener_id": foreign["listener_id"], "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}}, 403),
}


@pytest.mark.parametrize("modern", [True])
@pytest.mark.parametrize("name", REFERENCES)
def test_nobody_reaches_what_is_not_theirs_by_naming_it(world, name):
    own, foreign = full(world, OWN), full(world, FOREIGN)
    verb, path, body, status = REFERENCES[name]
    world.headers = headers("member", OWN)
    world.refused(status, verb, path.format(**own), body(own, foreign))


@pytest.mark.parametrize("modern", [True])
@pytest.mark.parametrize(("path", "id"), [("/pools/{pool_id}/members", "member_id"),
                                          ("/l7policies/{l7policy_id}/rules", "rule_id")])
@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
def test_the_way_through_ones_own_parent_leads_to_ones_own_children_only(world, path, id, verb):
    own, foreign = full(world, OWN), full(world, FOREIGN)
    world.headers = headers("member", OWN)
    body = {"member" if id == "member_id" else "rule": {"admin_state_up": True}} if verb == "PUT" else None
    world.refused(403, verb, f"{path.format(**own)}/{foreign[id]}", body)
