# SPDX-License-Identifier: Apache-2.0
"""Who may reach a VIP, where the network has to be told."""

import pytest

from statera.model.guard import PEERS_PORT, SUCCESSION_PORT, Door, guard
from statera.model.tree import AdditionalVip, Listener, LoadBalancer
from statera.render import haproxy

SUCCESSORS = Door("udp", SUCCESSION_PORT)
PAIR_DOORS = (Door("vrrp"), Door("tcp", PEERS_PORT))


def listener(protocol="HTTP", protocol_port=80, **facts):
    return Listener(id=f"l{protocol_port}", created_version=1, wanted_version=1, protocol=protocol,
                    protocol_port=protocol_port, **facts)


def load_balancer(*listeners, **facts):
    facts = {"topology": "SINGLE", "vip_address": "10.0.0.5"} | facts
    return LoadBalancer(id="lb", project_id="p", provider="amphora", version=5, created_version=1, wanted_version=1,
                        listeners=listeners, **facts)


@pytest.mark.parametrize(("lb", "doors"), [
    pytest.param(load_balancer(), (), id="no listener, no door for clients"),
    pytest.param(load_balancer(listener()), (Door("tcp", 80, "0.0.0.0/0"),), id="anybody may ask a web site"),
    pytest.param(load_balancer(listener("UDP", 53)), (Door("udp", 53, "0.0.0.0/0"),), id="names over UDP"),
    pytest.param(load_balancer(listener(allowed_cidrs=("10.1.0.0/16", "10.2.0.0/16"))),
                 (Door("tcp", 80, "10.1.0.0/16"), Door("tcp", 80, "10.2.0.0/16")), id="two networks are allowed"),
    pytest.param(load_balancer(listener(), additional_vips=(AdditionalVip(subnet_id="s", ip_address="fd00::5"),)),
                 (Door("tcp", 80, "0.0.0.0/0"), Door("tcp", 80, "::/0")), id="a VIP of each family"),
    pytest.param(load_balancer(listener(deleting=True), listener(protocol_port=81, admin_state_up=False)), (),
                 id="listeners that go or are off"),
    pytest.param(load_balancer(listener(), topology="ACTIVE_STANDBY"), (*PAIR_DOORS, Door("tcp", 80, "0.0.0.0/0")),
                 id="the two of a pair talk"),
    pytest.param(load_balancer(listener(), vip_sg_ids=("g",), topology="ACTIVE_STANDBY"), PAIR_DOORS,
                 id="the tenant's own groups decide about clients"),
])
def test_doors(lb, doors):
    assert guard(lb).doors == (SUCCESSORS, *doors)


def test_the_mark_tells_guards_apart():
    marks = {guard(lb).mark for lb in (
        load_balancer(), load_balancer(listener()), load_balancer(vip_sg_ids=("g",)),
        load_balancer(vip_qos_policy_id="q"))}
    assert len(marks) == 4
    assert guard(load_balancer(listener())).mark == guard(load_balancer(listener(connection_limit=5))).mark


def test_stick_tables_pass_by_the_port_that_haproxy_uses():
    assert PEERS_PORT == haproxy.PEERS_PORT
