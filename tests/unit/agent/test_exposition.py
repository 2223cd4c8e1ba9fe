# SPDX-License-Identifier: Apache-2.0
"""HAProxy's metrics in Octavia's names."""

import pytest

from statera.agent import exposition
from statera.model.fleet import Role
from statera.wire import Counters, ListenerSpec, MemberSpec, PoolSpec, Report, Spec


@pytest.mark.parametrize(("theirs", "ours"), [
    ("haproxy_process_requests_total", "octavia_loadbalancer_requests_total"),
    ("haproxy_process_pool_used_bytes", "octavia_memory_pool_used_bytes"),
    ("haproxy_frontend_bytes_in_total", "octavia_listener_bytes_in_total"),
    ("haproxy_backend_active_servers", "octavia_pool_active_members"),
    ("haproxy_backend_server_aborts_total", "octavia_pool_member_aborts_total"),
    ("haproxy_server_server_aborts_total", "octavia_member_server_aborts_total"),
    ("haproxy_process_build_info", None),
    ("haproxy_sticktable_size", None),
])
def test_a_metric_has_octavias_name(theirs, ours):
    assert exposition.renamed(theirs) == ours


def test_a_sample_has_octavias_labels_and_hidden_proxies_have_none():
    page = exposition.text(exposition.families(
        "# HELP haproxy_server_status Current status of the server.\n"
        "# TYPE haproxy_server_status gauge\n"
        'haproxy_server_status{proxy="pool:web",server="one",state="UP"} 1\n'
        'haproxy_server_status{proxy="statera-metrics",server="agent",state="UP"} 1\n'))
    assert page == (
        "# HELP octavia_member_status Current status of the member.\n"
        "# TYPE octavia_member_status gauge\n"
        'octavia_member_status{pool="pool:web",member="one",state="UP"} 1\n')


def test_flows_join_the_families_of_haproxy():
    listener = ListenerSpec(id="dns", protocol="UDP", protocol_port=53, default_pool_id="pool")
    members = (MemberSpec(id="one", address="10.0.0.1", protocol_port=53),
               MemberSpec(id="two", address="10.0.0.2", protocol_port=53, weight=0))
    spec = Spec(
        amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(), vips=(),
        listeners=(listener,),
        pools=(PoolSpec(id="pool", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=members),))
    found = exposition.families(
        '# TYPE haproxy_frontend_bytes_in_total counter\nhaproxy_frontend_bytes_in_total{proxy="web"} 7\n')
    exposition.add_flows(found, spec, Report(
        amphora_id="a", pools={"pool": "UP"}, members={"one": "DOWN", "two": "no check"},
        counters={"dns": Counters(bytes_in=2**40)}))
    page = exposition.text(found)
    assert ('# TYPE octavia_listener_bytes_in_total counter\n'
            'octavia_listener_bytes_in_total{listener="web"} 7\n'
            'octavia_listener_bytes_in_total{listener="dns"} 1099511627776\n') in page
    assert 'octavia_member_status{pool="pool:dns",member="one",state="DOWN"} 1\n' in page
    assert 'octavia_member_status{pool="pool:dns",member="two",state="DRAIN"} 1\n' in page
