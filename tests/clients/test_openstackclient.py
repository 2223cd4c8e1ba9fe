# SPDX-License-Identifier: Apache-2.0
"""Every `openstack loadbalancer …` command, as it comes with python-octaviaclient."""

from importlib.metadata import entry_points

import pytest
from clients.page import Page

MEMBER, ADMIN = "member", "admin"

COMMANDS = """
loadbalancer provider list
loadbalancer provider capability list octavia @admin
loadbalancer flavorprofile create --name gold --provider amphora --flavor-data {"loadbalancer_topology":"SINGLE"} @admin
loadbalancer flavorprofile list @admin
loadbalancer flavorprofile show gold @admin
loadbalancer flavorprofile set --flavor-data {"loadbalancer_topology":"ACTIVE_STANDBY"} gold @admin
loadbalancer flavor create --name gold --flavorprofile gold --description good --enable @admin
loadbalancer flavor list
loadbalancer flavor show gold
loadbalancer flavor set --name golden --disable gold @admin
loadbalancer flavor unset --description golden @admin
loadbalancer flavor delete golden @admin
loadbalancer flavorprofile delete gold @admin
loadbalancer availabilityzoneprofile create --name z --provider amphora --availability-zone-data {} @admin
loadbalancer availabilityzoneprofile list @admin
loadbalancer availabilityzoneprofile show z @admin
loadbalancer availabilityzoneprofile set --name zone z @admin
loadbalancer availabilityzone create --name az --availabilityzoneprofile zone --description here @admin
loadbalancer availabilityzone list
loadbalancer availabilityzone show az
loadbalancer availabilityzone set --disable az @admin
loadbalancer availabilityzone unset --description az @admin
loadbalancer availabilityzone delete az @admin
loadbalancer availabilityzoneprofile delete zone @admin
loadbalancer quota list @admin
loadbalancer quota set --loadbalancer 9 --listener 9 --pool 9 --member 9 demo @admin
loadbalancer quota set --healthmonitor 9 --l7policy 9 --l7rule 9 demo @admin
loadbalancer quota show demo @admin
loadbalancer quota unset --pool demo @admin
loadbalancer quota reset demo @admin
loadbalancer quota defaults show @admin
loadbalancer create --name lb --vip-subnet-id subnet --description first --tag a --wait
loadbalancer list
loadbalancer list --name lb --tags a
loadbalancer show lb
loadbalancer set --name web --enable lb
loadbalancer unset --description web
loadbalancer stats show web
loadbalancer status show web
loadbalancer listener create --name http --protocol HTTP --protocol-port 80 --insert-headers X-Forwarded-For=true web
loadbalancer listener list --loadbalancer web
loadbalancer listener show http
loadbalancer listener set --connection-limit 100 --allowed-cidr 192.0.2.0/24 http
loadbalancer listener unset --connection-limit --allowed-cidrs http
loadbalancer listener stats show http
loadbalancer pool create --name blue --protocol HTTP --lb-algorithm ROUND_ROBIN --listener http
loadbalancer pool create --name green --protocol HTTP --lb-algorithm SOURCE_IP --loadbalancer web
loadbalancer pool set --session-persistence type=APP_COOKIE,cookie_name=c green
loadbalancer pool list
loadbalancer pool show blue
loadbalancer pool set --name azure blue
loadbalancer pool unset --session-persistence green
loadbalancer member create --name one --address 198.51.100.1 --protocol-port 80 --subnet-id subnet azure
loadbalancer member list azure
loadbalancer member show azure one
loadbalancer member set --weight 5 azure one
loadbalancer member unset --weight azure one
loadbalancer healthmonitor create --name check --type HTTP --delay 5 --timeout 3 --max-retries 2 --url-path /up azure
loadbalancer healthmonitor list
loadbalancer healthmonitor show check
loadbalancer healthmonitor set --delay 7 check
loadbalancer healthmonitor unset --url-path check
loadbalancer l7policy create --name away --action REDIRECT_TO_URL --redirect-url http://www.example.org/ http
loadbalancer l7policy list
loadbalancer l7policy show away
loadbalancer l7policy set --action REDIRECT_TO_POOL --redirect-pool green away
loadbalancer l7policy unset --name away
loadbalancer l7rule create --type PATH --compare-type STARTS_WITH --value /old {policy} > rule
loadbalancer l7rule list {policy}
loadbalancer l7rule show {policy} {rule}
loadbalancer l7rule set --value /older {policy} {rule}
loadbalancer l7rule unset --invert {policy} {rule}
loadbalancer l7rule delete {policy} {rule}
loadbalancer l7policy delete {policy}
loadbalancer healthmonitor delete check
loadbalancer member delete azure one
loadbalancer pool delete azure
loadbalancer listener delete http
loadbalancer amphora list @admin
loadbalancer amphora show {amphora} @admin
loadbalancer amphora stats show {amphora} @admin
loadbalancer amphora configure {amphora} @admin
loadbalancer amphora failover {amphora} @admin
loadbalancer amphora delete {amphora} @admin
loadbalancer failover web @admin
loadbalancer delete --cascade web
"""
"""In the order that one would type them; `> x` keeps the id that is printed."""

REFUSED = {
    "loadbalancer amphora stats show": "not found",  # a pretended amphora carries no traffic, so it has no statistics
    "loadbalancer amphora delete": "is immutable",  # only one in ERROR can be deleted
}
"""What Octavia refuses here too, and how."""


def lines():
    """Words, user and what the id is kept as."""
    for line in COMMANDS.strip().splitlines():
        line, _, kept = line.partition(" > ")
        line, _, user = line.partition(" @")
        yield line.split(), user or MEMBER, kept


def name_of(words):
    """The command without its arguments."""
    return max((known for known in names() if words[:len(known.split())] == known.split()), key=len)


def names():
    return [each.name.replace("_", " ") for each in entry_points(group="openstack.load_balancer.v2")]


@pytest.fixture(scope="module")
def subnet(shell):
    admin = shell(ADMIN)
    network = admin.show("network", "create", "net", "--share")
    return admin.show("subnet", "create", "subnet", "--network", network["id"], "--subnet-range", "198.51.100.0/24")


def test_every_command_is_tried():
    assert {name_of(words) for words, _, _ in lines()} == set(names())


def test_every_command_works(shell, subnet):
    page, known = Page("python-octaviaclient: `openstack …`"), {}
    for words, user, kept in lines():
        known |= look_up(shell, words, known)
        full = [word.format(**known) if word.strip("{}") in known else word for word in words]
        status, said, complained = shell(user).try_to(*full, *(["-f", "value", "-c", "id"] if kept else []))
        refused = REFUSED.get(name_of(words))
        assert (status != 0) == bool(refused), (full, said, complained)
        assert not refused or refused in complained, complained
        if kept:
            known[kept] = said.strip()
        page.add(name_of(words), "refused, as by Octavia" if refused else "works")
    page.keep()


def look_up(shell, words, known):
    """Ids of what has no name."""
    if "{policy}" in words and "policy" not in known:
        return {"policy": shell(MEMBER).show("loadbalancer", "l7policy", "list")[0]["id"]}
    if "{amphora}" in words:
        return {"amphora": shell(ADMIN).show("loadbalancer", "amphora", "list")[0]["id"]}
    return {}
