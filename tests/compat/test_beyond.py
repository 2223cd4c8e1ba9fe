# SPDX-License-Identifier: Apache-2.0
"""What the API answers beyond Octavia's: events, waiting, when to try again, creations that happen once."""

import queue
import threading
import time

import pytest

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
BODY = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": PROJECT, "name": "web"}}


def soon(act):
    """Let *act* happen while the caller waits."""
    thread = threading.Timer(0.1, act)
    thread.start()
    return thread


# Events


def test_events_tell_what_was_asked_newest_first(world):
    lb = world.lb()
    world.listener(lb)
    told = world.get(f"/loadbalancers/{lb['id']}/events")
    assert [event["message"] for event in told["events"]] == ["Listener post", "Load Balancer post"]
    assert list(told["events"][0]) == ["id", "at", "object_type", "object_id", "reason", "message", "attempt", "fault",
                                       "next_try_at", "request_id"]
    assert told["events"][0]["request_id"].startswith("req-")
    assert told["events_links"] == []


def test_events_come_in_pages(world):
    lb = world.lb()
    world.listener(lb)
    path = f"/loadbalancers/{lb['id']}/events"
    first = world.get(path, limit="1")
    [link] = first["events_links"]
    assert link["href"].endswith(f"?limit=1&marker={first['events'][0]['id']}")
    second = world.get(path, limit="1", marker=str(first["events"][0]["id"]))
    assert [event["message"] for event in second["events"]] == ["Load Balancer post"]


def test_events_of_nothing_and_of_others_are_refused(worlds):
    world = worlds(api_settings={"auth_strategy": "testing"})
    world.headers = {"X-Project-Id": PROJECT, "X-Roles": "member,reader"}
    lb = world.lb()
    world.refused(404, "GET", "/loadbalancers/nothing/events")
    world.refused(400, "GET", f"/loadbalancers/{lb['id']}/events", query={"marker": "x"})
    world.headers = {"X-Project-Id": "other", "X-Roles": "member,reader"}
    world.refused(403, "GET", f"/loadbalancers/{lb['id']}/events")


# Waiting


def test_a_show_may_wait_until_it_is_active(world):
    lb = world.post("/loadbalancers", **BODY)["loadbalancer"]
    worker = soon(world.settle)
    shown = world.get(f"/loadbalancers/{lb['id']}", wait="ACTIVE", timeout="20")["loadbalancer"]
    worker.join()
    assert shown["provisioning_status"] == "ACTIVE"


def test_waiting_ends_with_what_is_there_when_the_time_is_over(world):
    lb = world.post("/loadbalancers", **BODY)["loadbalancer"]
    began = time.monotonic()
    shown = world.get(f"/loadbalancers/{lb['id']}", wait="ACTIVE", timeout="0.2")["loadbalancer"]
    assert 0.2 <= time.monotonic() - began < 10
    assert shown["provisioning_status"] == "PENDING_CREATE"


def test_waiting_ends_with_an_error(world):
    lb = world.post("/loadbalancers", **BODY)["loadbalancer"]
    worker = soon(lambda: world.fail(lb))
    shown = world.get(f"/loadbalancers/{lb['id']}", wait="ACTIVE", timeout="20")["loadbalancer"]
    worker.join()
    assert shown["provisioning_status"] == "ERROR"


def test_waiting_for_the_end_of_a_delete_ends_with_404(world):
    lb = world.lb()
    world.delete(f"/loadbalancers/{lb['id']}")
    worker = soon(world.settle)
    world.refused(404, "GET", f"/loadbalancers/{lb['id']}", query={"wait": "DELETED"})
    worker.join()


@pytest.mark.parametrize("query", [
    {"wait": "active"}, {"wait": ""}, {"timeout": "3"}, {"wait": "ACTIVE", "timeout": "long"},
    {"wait": "ACTIVE", "timeout": "nan"}, {"wait": "ACTIVE", "timeout": "-1"}], ids=str)
def test_what_cannot_be_waited_for_is_refused(world, query):
    lb = world.lb()
    assert "Value should be" in world.refused(400, "GET", f"/loadbalancers/{lb['id']}", query=query)


def test_who_finds_no_seat_is_answered_at_once(worlds):
    world, answers = worlds(api_settings={"threads": 1}), queue.Queue()
    lb = world.post("/loadbalancers", **BODY)["loadbalancer"]
    path, query = f"/loadbalancers/{lb['id']}", {"wait": "ACTIVE", "timeout": "60"}
    callers = [threading.Thread(target=lambda: answers.put(world.call("GET", path, query=query))) for _ in range(2)]
    for caller in callers:
        caller.start()
    at_once = answers.get(timeout=30)
    assert (at_once.headers.get("Retry-After"), at_once.json["loadbalancer"]["provisioning_status"]) == (
        "1", "PENDING_CREATE")
    world.settle()
    assert answers.get(timeout=30).json["loadbalancer"]["provisioning_status"] == "ACTIVE"
    for caller in callers:
        caller.join()


# When to try again


def test_a_conflict_that_passes_says_when_to_try_again(strict):
    lb = strict.post("/loadbalancers", **BODY)["loadbalancer"]
    for answer in (
        strict.call("PUT", f"/loadbalancers/{lb['id']}", {"loadbalancer": {"name": "b"}}),
        strict.call("POST", "/listeners", {"listener": {
            "loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}}),
    ):
        assert (answer.status_code, answer.headers["Retry-After"]) == (409, "1")


def test_a_conflict_that_stays_does_not(world):
    lb = world.lb()
    world.listener(lb)
    answer = world.call("POST", "/listeners", {"listener": {
        "loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}})
    assert (answer.status_code, "Retry-After" in answer.headers) == (409, False)


# Creations that happen once


def test_a_creation_that_is_asked_for_again_happens_once(world):
    key = {"Idempotency-Key": "2f6c"}
    first = world.call("POST", "/loadbalancers", BODY, headers=key)
    world.settle()
    again = world.call("POST", "/loadbalancers", BODY, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json == first.json
    assert len(world.get("/loadbalancers")["loadbalancers"]) == 1


def test_children_are_created_once_too(world):
    lb, key = world.lb(), {"Idempotency-Key": "k"}
    body = {"listener": {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}}
    first, again = (world.call("POST", "/listeners", body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, first.json == again.json) == (201, 201, True)


def test_what_an_operator_offers_is_created_once_too(world):
    key = {"Idempotency-Key": "k"}
    body = {"flavorprofile": {"name": "gold", "provider_name": "amphora", "flavor_data": "{}"}}
    first, again = (world.call("POST", "/flavorprofiles", body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, first.json == again.json) == (201, 201, True)


def test_a_key_that_comes_with_another_request_is_refused(world):
    key = {"Idempotency-Key": "k"}
    world.call("POST", "/loadbalancers", BODY, headers=key)
    other = {"loadbalancer": {**BODY["loadbalancer"], "name": "other"}}
    assert world.refused(422, "POST", "/loadbalancers", other, headers=key) == (
        "Idempotency-Key 'k' has been used for another request; take a new key for a new request.")


def test_keys_belong_to_a_project(worlds):
    world = worlds(api_settings={"auth_strategy": "testing"})
    ids = set()
    for project in ("one", "two"):
        headers = {"X-Project-Id": project, "X-Roles": "member", "Idempotency-Key": "k"}
        answer = world.call("POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": SUBNET}}, headers=headers)
        ids.add(answer.json["loadbalancer"]["id"])
    assert len(ids) == 2


def test_a_refused_creation_may_be_asked_for_again(world):
    lb, key = world.lb(), {"Idempotency-Key": "k"}
    world.listener(lb, protocol_port=80)
    body = {"listener": {"loadbalancer_id": lb["id"], "protocol": "HTTP", "protocol_port": 80}}
    world.refused(409, "POST", "/listeners", body, headers=key)
    [taken] = world.get("/listeners")["listeners"]
    world.delete(f"/listeners/{taken['id']}")
    world.settle()
    assert world.call("POST", "/listeners", body, headers=key).status_code == 201


def test_an_answer_is_not_kept_for_ever(worlds):
    world, key = worlds(api_settings={"idempotency_key_age": 1}), {"Idempotency-Key": "k"}
    first = world.call("POST", "/loadbalancers", BODY, headers=key)
    until = time.monotonic() + 20
    while (again := world.call("POST", "/loadbalancers", BODY, headers=key)).json == first.json:
        assert time.monotonic() < until
    assert again.status_code == 201


def test_many_who_ask_at_once_with_one_key_get_one_load_balancer(world):
    answers = []

    def ask():
        answers.append(world.call("POST", "/loadbalancers", BODY, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["loadbalancer"]["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_sensible_length(world, key):
    world.refused(400, "POST", "/loadbalancers", BODY, headers={"Idempotency-Key": key})
