# SPDX-License-Identifier: Apache-2.0
"""The agent's own health checks, with real packets: who fails gets nothing, who is well again gets its share."""

import subprocess

import pytest
from amphora.datagrams import asked
from msgspec.structs import replace

from statera.wire import ListenerSpec, MonitorSpec, PoolSpec


def monitor(kind, **changes):
    return MonitorSpec(**{"type": kind, "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1, **changes})


def flow_spec(lab, check, *members):
    listener = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")
    pool = PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=members, monitor=check)
    return lab.spec(listeners=(listener,), pools=(pool,))


@pytest.mark.carries("monitor_address and monitor_port")
@pytest.mark.parametrize(("check", "good", "bad"), [
    pytest.param(monitor("UDP-CONNECT"), 90, 91, id="udp-connect"),
    pytest.param(monitor("TCP"), 90, 91, id="tcp"),
    pytest.param(monitor("HTTP", url_path="/", expected_codes="200-204"), 80, 90, id="http"),
    pytest.param(monitor("SCTP"), 90, 91, id="sctp"),
    pytest.param(monitor("PING"), None, None, id="ping"),
])
def test_a_member_that_fails_gets_no_flows(lab, node, wait_until, check, good, bad):
    nobody = {"monitor_address": f"{lab.net}.99"} if good is None else {}
    spec = flow_spec(lab, check, lab.member(10, protocol_port=90, monitor_port=good),
                     lab.member(11, protocol_port=90, monitor_port=bad, **nobody))
    ten, eleven = (member.id for member in spec.pools[0].members)
    node.carry(lab.network, spec.amphora_id)
    assert node.put(spec).failure is None
    node.wait(lambda _: node.words("members") == {ten: "UP", eleven: "DOWN"})
    wait_until(lambda: asked(lab, 4) == {"10": 4})
    node.put(replace(spec, version=2, pools=(replace(spec.pools[0], monitor=None),)))
    node.wait(lambda _: node.words("members") == {ten: "no check", eleven: "no check"})
    assert set(asked(lab, 4)) == {"10", "11"}


def test_a_pool_whose_members_all_fail_is_down(lab, node):
    spec = flow_spec(lab, monitor("UDP-CONNECT"), lab.member(10, protocol_port=91))
    node.carry(lab.network, spec.amphora_id)
    node.put(spec)
    node.wait(lambda _: node.words("pools") == {"names": "DOWN"})
    with pytest.raises(ConnectionRefusedError):
        asked(lab, 1)


def test_pinged_members_of_an_http_pool_go_and_come_back_without_a_reload(lab, node, serving, wait_until):
    members = f"members-{lab.tag}"
    subprocess.run(["ip", "-n", members, "addr", "del", f"{lab.net}.11/24", "dev", f"n{lab.tag}"], check=True)
    ten, eleven = (member.id for member in serving.pools[0].members)
    pinged = replace(serving, version=2, pools=(replace(serving.pools[0], monitor=monitor("PING")),))
    node.put(pinged)
    node.wait(lambda _: node.words("members") == {ten: "UP", eleven: "DOWN"})
    assert {lab.get()["who"] for _ in range(6)} == {f"{lab.net}.10"}
    pids = node.pids(serving)
    subprocess.run(["ip", "-n", members, "addr", "add", f"{lab.net}.11/24", "dev", f"n{lab.tag}"], check=True)
    node.wait(lambda _: node.words("members") == {ten: "UP", eleven: "UP"})
    wait_until(lambda: {lab.get()["who"] for _ in range(4)} == {f"{lab.net}.10", f"{lab.net}.11"})
    assert node.pids(serving) == pids


def test_neither_reload_nor_restart_forgets_who_is_down_until_nobody_asks(lab, node, serving):
    nobody = lab.member(99)
    pinged = replace(serving, version=2, pools=(replace(
        serving.pools[0], members=(*serving.pools[0].members, nobody), monitor=monitor("PING")),))
    node.put(pinged)
    node.wait(lambda _: node.words("members").get(nobody.id) == "DOWN")
    reloaded = node.put(replace(
        pinged, version=3, listeners=(replace(pinged.listeners[0], timeout_client_data=9000),)))
    assert reloaded.how == "reload"
    lab.get()
    down = [line.split()[5] for line in node.servers(pinged).splitlines() if nobody.id in line]
    assert down == ["0"]
    node.stop()
    again = lab.host()
    again.put(replace(serving, version=4, pools=(replace(pinged.pools[0], monitor=None),)))
    up = [line.split()[5] for line in again.servers(pinged).splitlines() if nobody.id in line]
    assert up == ["2"]
