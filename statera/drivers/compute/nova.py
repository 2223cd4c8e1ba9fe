# SPDX-License-Identifier: Apache-2.0
"""A virtual machine for each amphora: the server `amphora-<id>` in the service project, which joins the fleet itself.

The machine has the management network and the amphora's ports. Its config drive holds the agent's configuration
with a token that lets this one name join.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from statera.config import Cinder, ControllerWorker, Nova
from statera.drivers.cloud import Json, Service
from statera.drivers.protocols import AmphoraRequest, Machine
from statera.errors import GiveUp, TryAgain
from statera.model.fleet import Node, Owned, Port

NAME, GROUP, SPARES = "amphora-{}", "octavia-lb-{}", "spares"
NAMED = re.compile(r"amphora-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
MADE_BY = {"made_by": "statera"}
"""Metadata of all our servers: another load-balancing service of the cloud may use the same names."""

FULL_GROUP = 10
"""Members of a server group by Nova's default quota. Spares never leave theirs, also when somebody has them."""

VERSION = {"OpenStack-API-Version": "compute 2.15", "X-OpenStack-Nova-API-Version": "2.15"}
"""The oldest that knows soft anti-affinity."""


class Invitation(Struct, frozen=True, kw_only=True):
    """What a machine needs to join: a *token* for its name, and who it is to trust."""

    token: str
    fingerprint: str


class NovaServers:
    """The `nova` compute driver. *invite* makes an invitation for the node of that name."""

    has_nodes = True
    plugs = True
    built_from: tuple[str, ...] = ("compute_flavor", "amp_image_tag")

    def __init__(
        self, nova: Service, glance: Service, *, worker: ControllerWorker, settings: Nova, cinder: Cinder,
        endpoints: Sequence[str], invite: Callable[[str], Invitation],
    ) -> None:
        self.nova = nova
        self._glance = glance
        self._worker = worker
        self._settings = settings
        self._cinder = cinder
        self._endpoints = tuple(endpoints)
        self._invite = invite
        self.keeps_apart = settings.enable_anti_affinity and settings.anti_affinity_policy == "anti-affinity"

    def ensure_node(self, request: AmphoraRequest) -> str | None:
        """The machine's node once it has connected.

        A server that Nova could not make, or that never connects, is removed, so that the next pass tries
        another. Raise `TryAgain` with Nova's own words then.
        """
        name = NAME.format(request.amphora_id)
        if joined := _joined(request.nodes, name):
            return joined
        server = self._find(name)
        if server is None:
            self._boot(name, request)
        elif problem := self._problem(server, datetime.now(UTC)):
            self.nova.remove(f"/servers/{server['id']}")
            raise TryAgain("server_failed", f"server {server['id']} of amphora {request.amphora_id} {problem}; "
                                            "another one is made")
        return None

    def plug(self, amphora_id: str, ports: Sequence[Port], *, load_balancer_id: str) -> None:
        server = self._find(NAME.format(amphora_id))
        if server is None:
            return  # the next one is born with them
        path = f"/servers/{server['id']}/os-interface"
        wanted = [port.port_id for port in ports]
        attached = self.nova.ask("GET", path, headers=VERSION)["interfaceAttachments"]
        own = [one for one in attached if one["net_id"] not in self._worker.amp_boot_network_list]
        has = {one["port_id"] for one in attached}
        for missing in [id for id in wanted if id not in has]:
            self.nova.ask("POST", path, json={"interfaceAttachment": {"port_id": missing}}, headers=VERSION)
        for one in own:
            if one["port_id"] not in wanted:
                self.nova.remove(f"{path}/{one['port_id']}")
        mine = {"load_balancer_id": load_balancer_id}
        if not server["metadata"].items() >= mine.items():
            self.nova.ask("POST", f"/servers/{server['id']}/metadata", json={"metadata": mine}, headers=VERSION)

    def newest(self) -> Mapping[str, str]:
        booted = {} if self._by_volume else {"image_id": self._image(self._worker.amp_image_tag)}
        return {**booted, "compute_flavor": self._worker.amp_flavor_id}

    def machine(self, amphora_id: str) -> Machine | None:
        server = self._find(NAME.format(amphora_id))
        return None if server is None else Machine(
            compute_id=server["id"], lb_network_ip=self._management_ip(server) or "",
            image_id=(server["image"] or {}).get("id"), compute_flavor=server["flavor"]["id"],
            cached_zone=server.get("OS-EXT-AZ:availability_zone"), host_id=server.get("hostId") or None)

    def ensure_absent(self, amphora_id: str) -> None:
        server = self._find(NAME.format(amphora_id))
        if server is not None:
            self.nova.remove(f"/servers/{server['id']}")

    def forget(self, load_balancer_id: str | None) -> None:
        grouped = load_balancer_id is None or self._settings.enable_anti_affinity
        for group in self._groups(load_balancer_id or SPARES) if grouped else ():
            self.nova.remove(f"/os-server-groups/{group['id']}")

    def owned(self) -> Sequence[Owned]:
        return [
            Owned(kind="server", id=server["id"], name=server["name"], owner=match[1], is_amphoras=True)
            for server in self._list("^amphora-")
            if server["metadata"].items() >= MADE_BY.items() and (match := NAMED.fullmatch(server["name"]))
        ]

    def release(self, thing: Owned) -> None:
        self.ensure_absent(thing.owner)

    # Booting.

    def _boot(self, name: str, request: AmphoraRequest) -> None:
        worker = self._worker
        image_id = self._image(request.flavor.get("amp_image_tag") or worker.amp_image_tag)
        groups = [{"name": id} for id in worker.amp_secgroup_list]
        server: Json = {
            "name": name, "flavorRef": request.flavor.get("compute_flavor") or worker.amp_flavor_id,
            "networks": [
                *({"uuid": id} for id in worker.amp_boot_network_list),
                *({"port": id} for id in dict.fromkeys(port.port_id for port in request.ports)),
            ],
            "config_drive": True, "user_data": b64encode(self._user_data(name).encode()).decode(),
            "metadata": {**MADE_BY, **({"load_balancer_id": owner} if (owner := request.load_balancer_id) else {})},
            **self._disk(image_id),
            **({"security_groups": groups} if groups else {}),
            **({"key_name": worker.amp_ssh_key_name} if worker.amp_ssh_key_name else {}),
        }
        if zone := request.zone or self._settings.availability_zone:
            server["availability_zone"] = zone
        group = self._group_of(request.load_balancer_id)
        self.nova.ask("POST", "/servers", headers=VERSION, json={
            "server": server, **({"os:scheduler_hints": {"group": group}} if group else {})})

    @property
    def _by_volume(self) -> bool:
        return self._worker.volume_driver == "volume_cinder_driver"

    def _disk(self, image_id: str) -> Json:
        if not self._by_volume:
            return {"imageRef": image_id}
        kind = {"volume_type": self._cinder.volume_type} if self._cinder.volume_type else {}
        return {"imageRef": "", "block_device_mapping_v2": [{
            "boot_index": 0, "source_type": "image", "uuid": image_id, "destination_type": "volume",
            "volume_size": self._cinder.volume_size, "delete_on_termination": True, **kind,
        }]}

    def _user_data(self, name: str) -> str:
        invitation = self._invite(name)
        return (
            f"[agent]\nendpoints = {','.join(self._endpoints)}\nnode_name = {name}\n"
            f"join_token = {invitation.token}\nca_fingerprint = {invitation.fingerprint}\n")

    def _image(self, tag: str) -> str:
        """The newest one with the tag."""
        owner = [("owner", self._worker.amp_image_owner_id)] if self._worker.amp_image_owner_id else []
        query = [("tag", tag), ("status", "active"), ("sort", "created_at:desc"), ("limit", "1"), *owner]
        found = self._glance.ask("GET", "/images", query=query)["images"]
        if not found:
            raise GiveUp("image_missing", f"no active image in Glance has the tag {tag}; "
                                          "`statera image build` and `statera image upload` make one")
        return str(found[0]["id"])

    def _group_of(self, load_balancer_id: str | None) -> str | None:
        """The server group that keeps the two of a pair apart, or spreads spares where that is possible."""
        if load_balancer_id is None:
            return self._group(SPARES, policy="soft-anti-affinity", room_for=FULL_GROUP)
        if not self._settings.enable_anti_affinity:
            return None
        return self._group(load_balancer_id, policy=self._settings.anti_affinity_policy)

    def _group(self, whose: str, *, policy: str, room_for: int | None = None) -> str:
        """The group's id; one that is full gives way to a new one, and its members stay where they are."""
        for group in self._groups(whose):
            if room_for is None or len(group["members"]) < room_for:
                return str(group["id"])
            self.nova.remove(f"/os-server-groups/{group['id']}")
        made = self.nova.ask("POST", "/os-server-groups", headers=VERSION, json={"server_group": {
            "name": GROUP.format(whose), "policies": [policy]}})
        return str(made["server_group"]["id"])

    def _groups(self, whose: str) -> list[Json]:
        found = self.nova.ask("GET", "/os-server-groups", headers=VERSION)["server_groups"]
        return [group for group in found if group["name"] == GROUP.format(whose)]

    # Looking.

    def _find(self, name: str) -> Json | None:
        return next(iter(self._list(f"^{name}$")), None)

    def _list(self, pattern: str) -> list[Json]:
        """Servers of the service project by name; those that go are gone."""
        query = [("name", pattern)]
        found = self.nova.ask("GET", "/servers/detail", query=query, headers=VERSION)["servers"]
        return [server for server in found if server["status"] != "DELETED" and not _is_going(server)]

    def _problem(self, server: Json, now: datetime) -> str | None:
        """Why there is no hope for the server, None while there is."""
        if server["status"] == "ERROR":
            return f"failed: {server.get('fault', {}).get('message', 'Nova does not say why')}"
        age = (now - datetime.fromisoformat(server["created"])).total_seconds()
        if age > self._settings.connect_seconds:
            state = f"is {server['status']} since {age:.0f} s and its agent has not connected with "
            return f"{state}{' or '.join(self._endpoints)}"
        return None

    def _management_ip(self, server: Json) -> str | None:
        """Nova lists addresses by the networks' names; the first network is the management's."""
        addresses: Mapping[str, Any] = server["addresses"]
        path = f"/servers/{server['id']}/os-interface"
        if not addresses:
            return None
        for one in self.nova.ask("GET", path, headers=VERSION)["interfaceAttachments"]:
            if one["net_id"] in self._worker.amp_boot_network_list and one["fixed_ips"]:
                return str(one["fixed_ips"][0]["ip_address"])
        return None


def _joined(nodes: Sequence[Node], name: str) -> str | None:
    return next((node.id for node in nodes if node.name == name and node.heard), None)


def _is_going(server: Json) -> bool:
    return server.get("OS-EXT-STS:task_state") == "deleting"
