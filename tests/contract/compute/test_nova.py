# SPDX-License-Identifier: Apache-2.0
"""What the `nova` driver asks of Nova and makes of its answers, with a Nova that keeps its servers in memory."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from msgspec.structs import replace

from statera.config import Cinder, ControllerWorker, Nova
from statera.drivers.cloud import Reply, Service
from statera.drivers.compute.nova import Invitation, NovaServers
from statera.drivers.protocols import AmphoraRequest
from statera.errors import GiveUp, TryAgain
from statera.model.fleet import Node, Port

AMPHORA, LB, MANAGEMENT = str(uuid4()), str(uuid4()), "mgmt-net"
NAME = f"amphora-{AMPHORA}"
WORKER = ControllerWorker(amp_boot_network_list=[MANAGEMENT], amp_flavor_id="small")
DENIED = {"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 10 of 10"}}


class Town(Service):
    """Servers, their interfaces, server groups and images, as Nova and Glance show them."""

    def __init__(self):
        super().__init__(None, "Nova")
        self.servers, self.groups, self.images = {}, {}, [{"id": "image"}]
        self.ports = {}
        self.asked = []
        self.denied = None

    def reply(self, method, path, *, json=None, query=(), token=None, headers=None):
        self.asked.append((method, path, json))
        kind, *rest = path.strip("/").split("/")
        answers = {"servers": self._servers, "os-server-groups": self._groups, "images": self._images}
        return answers[kind](method, rest, json, dict(query))

    def _servers(self, method, rest, json, query):
        if method == "POST" and not rest and self.denied:
            return Reply(403, self.denied, "", self.denied["forbidden"]["message"])
        if method == "POST" and not rest:
            return self._boot(json["server"], json.get("os:scheduler_hints", {}))
        if rest[1:] == ["metadata"]:
            self.servers[rest[0]]["metadata"].update(json["metadata"])
            return Reply(200, json)
        if "os-interface" in rest:
            return self._interfaces(method, rest, json)
        if method == "DELETE":
            return Reply(204 if self.servers.pop(rest[0], None) else 404, {})
        wanted = query["name"].strip("^$")
        found = [one for one in self.servers.values()
                 if one["name"] == wanted or (not query["name"].endswith("$") and one["name"].startswith(wanted))]
        return Reply(200, {"servers": found})

    def _groups(self, method, rest, json, query):
        if method == "POST":
            made = {"id": str(uuid4()), "members": [], **json["server_group"]}
            self.groups[made["id"]] = made
            return Reply(200, {"server_group": made})
        if method == "DELETE":
            return Reply(204 if self.groups.pop(rest[0], None) else 404, {})
        return Reply(200, {"server_groups": list(self.groups.values())})

    def _images(self, method, rest, json, query):
        return Reply(200, {"images": self.images})

    def _boot(self, asked, hints):
        id = str(uuid4())
        if hints:
            self.groups[hints["group"]]["members"].append(id)
        self.servers[id] = {
            "id": id, "name": asked["name"], "status": "BUILD", "metadata": asked["metadata"], "addresses": {"m": []},
            "created": datetime.now(UTC).isoformat(), "image": {"id": asked["imageRef"]} if asked["imageRef"] else "",
            "flavor": {"id": asked["flavorRef"]}, "hostId": f"host-{len(self.servers)}",
            "OS-EXT-AZ:availability_zone": asked.get("availability_zone", "nova"),
        }
        self.ports[id] = [one.get("port", MANAGEMENT) for one in asked["networks"]]
        return Reply(202, {"server": {"id": id}})

    def _interfaces(self, method, rest, json):
        ports = self.ports[rest[0]]
        if method == "POST":
            ports.append(json["interfaceAttachment"]["port_id"])
        if method == "DELETE":
            ports.remove(rest[2])
        return Reply(200, {"interfaceAttachments": [
            {"port_id": id, "net_id": id, "fixed_ips": [{"ip_address": "172.31.0.9"}]} for id in ports]})

    @property
    def only(self):
        [server] = self.servers.values()
        return server

    def booted(self):
        return next(json for method, path, json in self.asked if (method, path) == ("POST", "/servers"))


@pytest.fixture
def town():
    return Town()


def driver(town, *, worker=WORKER, settings=None, cinder=None):
    return NovaServers(
        town, town, worker=worker, settings=settings or Nova(), cinder=cinder or Cinder(),
        endpoints=["172.31.0.1:5555", "172.31.0.2:5555"],
        invite=lambda name: Invitation(token=f"token for {name}", fingerprint="f1"))


def port(id):
    return Port(port_id=id, network_id=f"net of {id}", subnet_id=f"subnet of {id}", ip_address="10.0.0.9",
                cidr="10.0.0.0/24")


REQUEST = AmphoraRequest(amphora_id=AMPHORA, load_balancer_id=LB, ports=(port("vip"), port("vip"), port("members")))
JOINED = Node(id="n", name=NAME, heard=True)


def test_a_machine_is_made_once_and_is_the_node_when_it_has_joined(town):
    nova = driver(town)
    assert [nova.ensure_node(REQUEST) for _ in range(3)] == [None, None, None]
    assert town.only["name"] == NAME
    assert nova.ensure_node(replace(REQUEST, nodes=(replace(JOINED, heard=False),))) is None
    assert nova.ensure_node(replace(REQUEST, nodes=(JOINED,))) == "n"


def test_it_is_born_with_all_ports_and_an_invitation(town):
    driver(town).ensure_node(REQUEST)
    server = town.booted()["server"]
    assert server["networks"] == [{"uuid": MANAGEMENT}, {"port": "vip"}, {"port": "members"}]
    assert base64.b64decode(server["user_data"]).decode() == (
        f"[agent]\nendpoints = 172.31.0.1:5555,172.31.0.2:5555\nnode_name = {NAME}\n"
        f"join_token = token for {NAME}\nca_fingerprint = f1\n")
    assert (server["flavorRef"], server["imageRef"], server["config_drive"]) == ("small", "image", True)


@pytest.mark.parametrize(("how", "asked"), [
    pytest.param({"flavor": {"compute_flavor": "large"}}, {"flavorRef": "large"}, id="the flavor names a size"),
    pytest.param({"zone": "z1"}, {"availability_zone": "z1"}, id="the load balancer names a zone"),
])
def test_what_users_choose(town, how, asked):
    driver(town).ensure_node(replace(REQUEST, **how))
    assert town.booted()["server"].items() >= asked.items()


def test_it_boots_from_a_volume_where_operators_say_so(town):
    driver(town, worker=replace(WORKER, volume_driver="volume_cinder_driver"), cinder=Cinder(
        volume_size=4, volume_type="fast")).ensure_node(REQUEST)
    [disk] = town.booted()["server"]["block_device_mapping_v2"]
    assert (disk["uuid"], disk["volume_size"], disk["volume_type"], disk["delete_on_termination"]) == (
        "image", 4, "fast", True)


def test_a_pair_is_kept_apart_by_one_group_that_ends_with_it(town):
    nova = driver(town, settings=Nova(enable_anti_affinity=True, anti_affinity_policy="soft-anti-affinity"))
    nova.ensure_node(REQUEST)
    nova.ensure_node(replace(REQUEST, amphora_id=str(uuid4())))
    [group] = town.groups.values()
    assert (group["name"], group["policies"]) == (f"octavia-lb-{LB}", ["soft-anti-affinity"])
    assert town.booted()["os:scheduler_hints"] == {"group": group["id"]}
    for _ in range(2):
        nova.forget(LB)
    assert town.groups == {}


def test_what_nova_could_not_make_gives_way_with_its_own_words(town):
    nova = driver(town)
    nova.ensure_node(REQUEST)
    town.only.update(status="ERROR", fault={"message": "No valid host was found."})
    with pytest.raises(TryAgain, match=r"failed: No valid host was found\.; another one is made") as refused:
        nova.ensure_node(REQUEST)
    assert (refused.value.reason, town.servers) == ("server_failed", {})
    nova.ensure_node(REQUEST)
    assert town.only["status"] == "BUILD"


def test_an_agent_that_never_connects_costs_its_machine(town):
    nova = driver(town)
    nova.ensure_node(REQUEST)
    town.only.update(status="ACTIVE", created=(datetime.now(UTC) - timedelta(seconds=700)).isoformat())
    with pytest.raises(TryAgain, match=r"its agent has not connected with 172\.31\.0\.1:5555 or 172\.31\.0\.2:5555"):
        nova.ensure_node(REQUEST)
    assert town.servers == {}


def test_the_service_projects_quota_is_the_operators_to_mend(town):
    town.denied = DENIED
    with pytest.raises(GiveUp, match="Quota exceeded for instances") as refused:
        driver(town).ensure_node(REQUEST)
    assert refused.value.reason == "quota_met"


def test_without_an_image_it_is_said_how_to_make_one(town):
    town.images = []
    with pytest.raises(GiveUp, match="no active image in Glance has the tag amphora; `statera image build`"):
        driver(town).ensure_node(REQUEST)


def test_ports_come_and_go_while_it_runs(town):
    nova = driver(town)
    nova.ensure_node(REQUEST)
    for _ in range(2):
        nova.plug(AMPHORA, [port("vip"), port("more")], load_balancer_id=LB)
    assert town.ports[town.only["id"]] == [MANAGEMENT, "vip", "more"]
    nova.plug(str(uuid4()), [port("vip")], load_balancer_id=LB)  # one that is not there yet is born with them


def test_administrators_are_told_about_the_machine(town):
    nova = driver(town)
    assert nova.machine(AMPHORA) is None
    nova.ensure_node(REQUEST)
    found = nova.machine(AMPHORA)
    assert (found.compute_id, found.lb_network_ip, found.image_id, found.compute_flavor, found.cached_zone) == (
        town.only["id"], "172.31.0.9", "image", "small", "nova")


def test_what_is_owned_names_its_owner_and_can_be_released(town):
    nova = driver(town)
    nova.ensure_node(REQUEST)
    town.servers["other"] = town.only | {"id": "other", "name": f"amphora-{uuid4()}", "metadata": {}}
    [thing] = nova.owned()
    assert (thing.kind, thing.owner, thing.is_amphoras) == ("server", AMPHORA, True)
    for _ in range(2):
        nova.release(thing)
    assert set(town.servers) == {"other"}


SPARE = replace(REQUEST, load_balancer_id=None, ports=())


def test_a_spare_machine_is_named_like_any_other_and_says_whose_it_is_once_somebody_has_it(town):
    nova = driver(town)
    nova.ensure_node(SPARE)
    assert (town.only["name"], town.only["metadata"], town.ports[town.only["id"]]) == (
        NAME, {"made_by": "statera"}, [MANAGEMENT])
    nova.plug(AMPHORA, [port("vip"), port("members")], load_balancer_id=LB)
    assert town.only["metadata"] == {"made_by": "statera", "load_balancer_id": LB}
    assert town.ports[town.only["id"]] == [MANAGEMENT, "vip", "members"]


def test_spares_are_spread_by_groups_that_never_overflow(town):
    nova = driver(town)
    for _ in range(12):
        nova.ensure_node(replace(SPARE, amphora_id=str(uuid4())))
    [group] = town.groups.values()
    assert (group["name"], group["policies"], len(group["members"])) == (
        "octavia-lb-spares", ["soft-anti-affinity"], 2)
    nova.forget(LB)
    assert town.groups
    nova.forget(None)
    assert town.groups == {}


def test_what_a_machine_is_made_from_now_is_known(town):
    assert driver(town).newest() == {"image_id": "image", "compute_flavor": "small"}
    by_volume = driver(town, worker=replace(WORKER, volume_driver="volume_cinder_driver"))
    assert by_volume.newest() == {"compute_flavor": "small"}  # Nova does not say what a volume was made from
