# SPDX-License-Identifier: Apache-2.0
"""Flavors, zones, their profiles, providers, amphorae."""

import pytest
from sqlalchemy import insert

from statera.store import tables

SUBNET = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
PROJECT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


@pytest.fixture
def profile(world):
    return world.post("/flavorprofiles", flavorprofile={
        "name": "p", "provider_name": "amphora", "flavor_data": '{"loadbalancer_topology": "ACTIVE_STANDBY"}',
    })["flavorprofile"]


@pytest.fixture
def flavor(world, profile):
    return world.post("/flavors", flavor={"name": "gold", "flavor_profile_id": profile["id"]})["flavor"]


def test_flavors(world, profile, flavor):
    assert list(flavor) == ["id", "name", "description", "enabled", "flavor_profile_id"]
    assert world.refused(409, "POST", "/flavors", {"flavor": {"name": "gold", "flavor_profile_id": profile["id"]}}) == (
        "A flavor of gold already exists.")
    assert world.refused(409, "PUT", f"/flavorprofiles/{profile['id']}", {"flavorprofile": {"flavor_data": "{}"}}) == (
        f"Flavor profile {profile['id']} is in use and cannot be modified.")
    assert world.put(f"/flavorprofiles/{profile['id']}", flavorprofile={"name": "q"})["flavorprofile"]["name"] == "q"
    lb = world.lb(flavor_id=flavor["id"])
    assert world.refused(409, "DELETE", f"/flavors/{flavor['id']}") == (
        f"Flavor {flavor['id']} is in use and cannot be modified.")
    world.delete(f"/loadbalancers/{lb['id']}")
    world.settle()
    world.delete(f"/flavors/{flavor['id']}")
    world.delete(f"/flavorprofiles/{profile['id']}")
    assert world.get("/flavorprofiles") == {"flavorprofiles": [], "flavorprofile_links": []}
    assert world.refused(404, "GET", f"/flavors/{flavor['id']}") == f"Flavor {flavor['id']} not found."


@pytest.mark.parametrize(("data", "provider", "status", "fault"), [
    pytest.param("x", "amphora", 400, "x is not a valid option for flavor_data", id="not JSON"),
    pytest.param("{}", "nobody", 400, "Provider 'nobody' is not enabled.", id="unknown provider"),
    pytest.param('{"colour": "red"}', "amphora", 501, "Provider 'amphora' does not support a requested option: "
                 "colour: red", id="unknown key"),
    pytest.param('{"loadbalancer_topology": "RING"}', "amphora", 501, "Provider 'amphora' does not support a "
                 "requested option: loadbalancer_topology: RING", id="unknown topology"),
])
def test_bad_profiles(world, data, provider, status, fault):
    body = {"flavorprofile": {"name": "p", "provider_name": provider, "flavor_data": data}}
    assert world.refused(status, "POST", "/flavorprofiles", body) == fault


@pytest.mark.parametrize(("values", "status", "fault"), [
    pytest.param({"flavor_id": None}, 400, "Validation failure: Invalid flavor_id.", id="null flavor"),
    pytest.param({"flavor_id": SUBNET}, 400, "Validation failure: Invalid flavor_id.", id="unknown flavor"),
    pytest.param({"availability_zone": None}, 400, "Validation failure: Invalid availability zone.", id="null zone"),
    pytest.param({"provider": "nobody"}, 400, "Provider 'nobody' is not enabled.", id="provider"),
])
def test_bad_choices(world, values, status, fault):
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": PROJECT, **values}}
    assert world.refused(status, "POST", "/loadbalancers", body) == fault


def test_flavors_choose_the_provider(world, flavor):
    body = {"loadbalancer": {"vip_subnet_id": SUBNET, "project_id": PROJECT, "flavor_id": flavor["id"],
                             "provider": "octavia"}}
    assert world.refused(400, "POST", "/loadbalancers", body) == (
        f"Flavor '{flavor['id']}' is not compatible with provider 'octavia'")
    world.put(f"/flavors/{flavor['id']}", flavor={"enabled": False})
    del body["loadbalancer"]["provider"]
    assert world.refused(400, "POST", "/loadbalancers", body) == (
        f"The selected flavor is not allowed in this deployment: {flavor['id']}")


def test_zones_are_named_by_their_name(world):
    profile = world.post("/availabilityzoneprofiles", availability_zone_profile={
        "name": "p", "provider_name": "amphora", "availability_zone_data": '{"compute_zone": "z1"}',
    })["availability_zone_profile"]
    zone = world.post("/availabilityzones", availability_zone={
        "name": "north", "availability_zone_profile_id": profile["id"]})["availability_zone"]
    assert list(zone) == ["name", "description", "enabled", "availability_zone_profile_id"]
    assert world.get("/availabilityzones/north")["availability_zone"] == zone
    assert world.lb(availability_zone="north")["availability_zone"] == "north"
    assert world.refused(409, "DELETE", "/availabilityzones/north") == (
        "Availability Zone north is in use and cannot be modified.")
    assert world.get("/availabilityzones")["availability_zones_links"] == []
    assert world.get("/availabilityzoneprofiles")["availability_zone_profile_links"] == []


def test_providers(world):
    shown = world.get("/providers")
    assert list(shown) == ["providers"]
    assert shown["providers"][0] == {"name": "amphora", "description": "The Octavia Amphora driver."}
    assert world.call("GET", "/providers/amphora").status_code == 405
    names = [each["name"] for each in world.get("/providers/amphora/flavor_capabilities")["flavor_capabilities"]]
    assert names[:5] == ["loadbalancer_topology", "compute_flavor", "amp_image_tag", "sriov_vip", "allow_member_sriov"]
    assert names[5:] == ["memory_mb", "cpus", "max_connections"]
    zone = world.get("/providers/amphora/availability_zone_capabilities", name="volume_zone", fields="name")
    assert zone == {"availability_zone_capabilities": [{"name": "volume_zone"}]}
    assert world.refused(400, "GET", "/providers/nobody/flavor_capabilities") == "Provider 'nobody' is not enabled."


@pytest.fixture
def amphora(world):
    lb = world.lb()
    with world.store.write() as connection:
        connection.execute(insert(tables.amphorae).values(
            id=SUBNET, load_balancer_id=lb["id"], role="MASTER", born_version=1, applied_version=1,
            created_at=tables_now(), ports=[{"port_id": "p", "ip_address": "192.0.2.9"}]))
        connection.execute(insert(tables.listener_statistics).values(
            listener_id="l", amphora_id=SUBNET, load_balancer_id=lb["id"], bytes_in=7, active_connections=2))
    return {"id": SUBNET, "lb": lb}


def tables_now():
    from statera.store.events import utc_now

    return utc_now()


def call(world, verb, path):
    return world.call(verb, path, root="/v2.0/octavia/amphorae")


def test_amphorae(world, amphora):
    shown = call(world, "GET", f"/{SUBNET}").json["amphora"]
    assert list(shown) == [
        "id", "loadbalancer_id", "compute_id", "lb_network_ip", "vrrp_ip", "ha_ip", "vrrp_port_id", "ha_port_id",
        "cert_expiration", "cert_busy", "role", "status", "vrrp_interface", "vrrp_id", "vrrp_priority", "cached_zone",
        "created_at", "updated_at", "image_id", "compute_flavor"]
    assert (shown["status"], shown["vrrp_ip"], shown["ha_ip"], shown["vrrp_priority"], shown["cert_busy"]) == (
        "ALLOCATED", "192.0.2.9", "198.0.2.5", 100, False)
    for query, count in (("", 1), ("?status=ALLOCATED", 1), ("?role=BACKUP", 0), (f"?project_id={PROJECT}", 1),
                         (f"?loadbalancer_id={amphora['lb']['id']}", 1)):
        name, _, value = query[1:].partition("=")
        result = world.call("GET", "", root="/v2/octavia/amphorae", query={name: value} if name else ())
        assert len(result.json["amphorae"]) == count, query
    assert call(world, "GET", f"/{SUBNET}/stats").json["amphora_stats"][0]["bytes_in"] == 7
    assert world.get(f"/loadbalancers/{amphora['lb']['id']}/stats")["stats"]["active_connections"] == 2
    assert call(world, "GET", "/nowhere/stats").json["faultstring"] == "Amphora stats for nowhere not found."
    assert call(world, "DELETE", f"/{SUBNET}").json["faultstring"] == (
        f"amphora {SUBNET} is immutable and cannot be updated.")
    assert call(world, "PUT", f"/{SUBNET}/config").status_code == 202
    assert world.status(f"/loadbalancers/{amphora['lb']['id']}") == "ACTIVE"
    assert call(world, "PUT", f"/{SUBNET}/failover").status_code == 202
    assert world.status(f"/loadbalancers/{amphora['lb']['id']}") == "PENDING_UPDATE"


def test_amphorae_live_in_one_place(world):
    assert world.call("GET", "/amphorae").status_code == 404
    assert world.call("GET", "/loadbalancers", root="/v2/octavia").status_code == 404
