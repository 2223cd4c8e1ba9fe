# SPDX-License-Identifier: Apache-2.0
"""Prometheus asks a load balancer through a listener of its own."""

import contextlib
import http.client
import re

import pytest
from msgspec.structs import replace

from statera.wire import ListenerSpec, PoolSpec

FLOW = ListenerSpec(id="flow", protocol="UDP", protocol_port=53, default_pool_id="names")
METRICS = ListenerSpec(id="metrics", protocol="PROMETHEUS", protocol_port=8088)

DASHBOARD = {
    "octavia_loadbalancer_cpu",
    "octavia_loadbalancer_memory",
    "octavia_loadbalancer_current_connection_rate",
    "octavia_loadbalancer_max_connections",
    "octavia_loadbalancer_requests_total",
    "octavia_memory_pool_used_bytes",
    "octavia_listener_bytes_in_total",
    "octavia_listener_bytes_out_total",
    "octavia_listener_http_responses_total",
    "octavia_listener_status",
    "octavia_pool_status",
    "octavia_pool_active_members",
    "octavia_pool_member_aborts_total",
    "octavia_pool_response_time_average_seconds",
    "octavia_member_status",
    "octavia_member_bytes_in_total",
    "octavia_member_check_failures_total",
    "octavia_member_server_aborts_total",
}


def fetch(lab, path="/metrics", source=None):
    link = http.client.HTTPConnection(lab.vip, 8088, timeout=2, source_address=(source, 0) if source else None)
    link.request("GET", path)
    with contextlib.closing(link):
        answer = link.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def measured(lab, node, serving):
    names = PoolSpec(id="names", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=(lab.member(10),))
    spec = replace(serving, version=2, listeners=(*serving.listeners, METRICS, FLOW), pools=(*serving.pools, names))
    assert node.put(spec).failure is None
    return spec


@pytest.mark.carries("PROMETHEUS listener")
def test_names_and_labels_are_those_of_dashboards(lab, node, measured):
    lab.get()
    status, page = fetch(lab)
    assert status == 200
    names = set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE))
    assert names >= DASHBOARD
    listener, pool = measured.listeners[0].id, measured.pools[0]
    assert f'octavia_listener_http_requests_total{{listener="{listener}"}} 1\n' in page
    member = pool.members[0].id
    assert f'octavia_member_status{{pool="{pool.id}:{listener}",member="{member}",state="UP"}} 1\n' in page
    assert 'octavia_listener_bytes_in_total{listener="flow"} 0\n' in page
    assert 'octavia_pool_status{pool="names:flow",state="UP"} 1\n' in page
    assert "statera-" not in page
    assert "haproxy" not in page.lower()
    kinds = re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)
    assert len(kinds) == len(set(kinds))
    node.wait(lambda _: node.words("listeners").keys() == {one.id for one in measured.listeners})


@pytest.mark.carries("allowed_cidrs, PROMETHEUS")
def test_other_paths_and_other_clients_see_nothing(lab, node, measured):
    assert fetch(lab, "/")[0] == 404
    guarded = replace(METRICS, allowed_cidrs=(f"{lab.net}.2/32",))
    node.put(replace(measured, version=3, listeners=(measured.listeners[0], guarded)))
    assert fetch(lab, source=f"{lab.net}.2")[0] == 200
    with pytest.raises(TimeoutError):
        fetch(lab, source=f"{lab.net}.1")


def test_metrics_come_back_with_the_agent_and_end_with_the_listener(lab, node, measured, wait_until):
    node.stop()
    assert fetch(lab)[0] == 503
    again = lab.host()
    wait_until(lambda: fetch(lab)[0] == 200)
    assert again.put(replace(measured, version=3, listeners=measured.listeners[:1])).failure is None
    with pytest.raises(OSError, match="refused"):
        fetch(lab)
