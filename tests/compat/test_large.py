# SPDX-License-Identifier: Apache-2.0
"""Ten thousand members at once: as many statements as for two, and no long wait."""

import time

import pytest

MANY = 10_000
SECONDS = 20
STATEMENTS = 20


def members(count, **values):
    same = {"protocol_port": 80, "tags": ["a"], **values}
    return [{"address": f"10.{n // 250}.{n % 250}.1", **same} for n in range(count)]


@pytest.fixture
def path(world):
    lb = world.lb()
    pool = world.pool(lb)
    return f"/pools/{pool['id']}/members"


def test_a_batch_of_many_takes_as_long_as_it_must(world, path):
    def put(batch):
        answer = world.call("PUT", path, {"members": batch})
        assert answer.status_code == 202, answer.text

    for batch in (members(MANY), members(MANY, weight=2), members(MANY // 2, name="b"), []):
        began = time.monotonic()
        assert world.statements(lambda batch=batch: put(batch)) <= STATEMENTS
        assert time.monotonic() - began < SECONDS
        world.settle()
    assert world.get(path)["members"] == []


def test_a_batch_changes_each_member_in_its_own_way(world, path):
    def show():
        shown = world.get(path)["members"]
        return sorted((each["address"], each["weight"], each["name"], each["tags"]) for each in shown)

    first, second, third = members(3)
    world.call("PUT", path, {"members": [first | {"weight": 5}, second, third]})
    world.settle()
    world.call("PUT", path, {"members": [first | {"name": "one"}, second | {"tags": ["b"]}, third | {"weight": 9}]})
    assert show() == [("10.0.0.1", 1, "one", ["a"]), ("10.0.1.1", 1, "", ["b"]), ("10.0.2.1", 9, "", ["a"])]


def test_a_large_batch_with_one_bad_member_changes_nothing(world, path):
    world.call("PUT", path, {"members": members(2)})
    world.settle()
    world.refused(409, "PUT", path, {"members": [*members(MANY), members(MANY)[-1]]})
    world.refused(400, "PUT", path, {"members": [*members(MANY), {"address": "192.0.2.256", "protocol_port": 80}]})
    assert len(world.get(path)["members"]) == 2
    assert {each["provisioning_status"] for each in world.get(path)["members"]} == {"ACTIVE"}
