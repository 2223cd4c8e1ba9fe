# SPDX-License-Identifier: Apache-2.0
"""What the API promises must not depend on the database: one winner of two, and no garbage that only one refuses."""

import threading
from collections import Counter

import pytest
from compat import test_garbage as garbage
from compat.conftest import World
from oslo_config import cfg

from statera.api.app import build
from statera.config import load
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.secrets.noop import NoopSecrets

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
ROUNDS = 6


@pytest.fixture
def api(store, tmp_path):
    """Makes an API with options of its own on the database."""
    def make(**options):
        file = tmp_path / "octavia.conf"
        options = {"auth_strategy": "noauth", "enabled_provider_drivers": "amphora:a,noop_driver:n"} | options
        file.write_text("[api_settings]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()))
        conf = cfg.ConfigOpts()
        settings = load(conf, [], prog="octavia-api", files=[str(file)])
        return World(store, build(settings, conf, store, NoopNetwork(), secrets=NoopSecrets()))

    return make


def at_once(*acts):
    """What the calls answer that are made at the same time."""
    start, answers = threading.Barrier(len(acts)), []

    def run(act):
        start.wait()
        answers.append(act())

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(answer.status_code for answer in answers)


def adding(world, lb, *, port):
    listener = {"loadbalancer_id": lb["id"], "protocol": "TCP", "protocol_port": port}
    return lambda: world.call("POST", "/listeners", {"listener": listener})


def test_of_two_changes_of_a_load_balancer_one_wins(api):
    world = api(strict_immutability=True)
    lb = world.lb(project_id="p")
    for _ in range(ROUNDS):
        assert at_once(*(
            lambda name=name: world.call("PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": name}})
            for name in "ab")) == {200: 1, 409: 1}
        world.settle()


def test_of_many_children_of_one_load_balancer_one_comes_first(api):
    world = api(strict_immutability=True)
    lb = world.lb(project_id="p")
    for first in range(10, 10 * ROUNDS, 10):
        assert at_once(*(adding(world, lb, port=first + extra) for extra in range(3))) == {201: 1, 409: 2}
        world.settle()


def test_one_port_is_taken_once_whatever_the_mode(api):
    world = api()
    lb = world.lb(project_id="p")
    for port in range(1, ROUNDS):
        assert at_once(*[adding(world, lb, port=port)] * 3) == {201: 1, 409: 2}
        world.settle()


def test_a_quota_is_not_exceeded_by_asking_at_once(api):
    world = api(auth_strategy="testing")
    world.headers = {"X-Project-Id": "p", "X-Roles": "admin"}
    world.call("PUT", "/quotas/p", {"quota": {"loadbalancer": 2}})
    codes = at_once(*(lambda: world.call("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}})
                      for _ in range(5)))
    assert codes[201] == 2
    assert codes.keys() <= {201, 403, 503}


def test_of_many_creations_with_one_key_one_happens(api):
    world = api()
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": "p"}}
    assert at_once(*(lambda: world.call("POST", "/loadbalancers", body, headers={"Idempotency-Key": "k"})
                     for _ in range(4))) == {201: 4}
    assert len(world.get("/loadbalancers")["loadbalancers"]) == 1


def test_garbage_is_no_other_on_this_database(api):
    garbage.test_each_kind_takes_garbage_in_its_own_fields(api())


def test_text_that_looks_like_code_is_kept_as_text(api):
    garbage.test_text_that_looks_like_code_is_kept_as_text(api())


def test_queries_and_paths_that_no_database_takes_are_refused(api):
    world = api()
    lb = world.lb(project_id="p")
    for query in ({"name": "\0"}, {"tags": "a\0"}, {"marker": "\0"}):
        world.refused(400, "GET", "/loadbalancers", query=query)
    for query in ({"protocol_port": "9" * 30}, {"protocol_port": "x"}, {"created_at": "never"}):
        assert world.get("/listeners", **query)["listeners"] == []
    for query in ({"http_version": "nan"}, {"http_version": "inf"}, {"http_version": "1e999"}, {"delay": "-5"}):
        assert world.get("/healthmonitors", **query)["healthmonitors"] == []
    world.refused(404, "GET", f"/loadbalancers/{lb['id']}\0")
    world.refused(404, "GET", f"/loadbalancers/{'x' * 5000}")
