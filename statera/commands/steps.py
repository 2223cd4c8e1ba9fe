# SPDX-License-Identifier: Apache-2.0
"""What a cloud needs before Statera can serve it: a table of things to find, make and take back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from statera.commands.image import LABEL, label

USER, PROJECT, GROUP, KEY, TAG = "octavia", "service", "lb-mgmt-sec-grp", "statera", "amphora"
FLAVOR = "statera-amphora"
MARK = "Made by Statera."
"""Description of what we made, where there is room for one: only that is taken back."""

ROLES = ("load-balancer_observer", "load-balancer_global_observer", "load-balancer_member", "load-balancer_quota_admin",
         "load-balancer_admin")
PORTS_EACH, RULES_EACH, MACHINES_EACH = 6, 20, 2
"""Of a load balancer with a pair of amphorae: a VIP, and for each amphora management, VIP and a members' network."""

MEMORY_MB, DISK_GB = 512, 2


class Wish(Struct, frozen=True, kw_only=True):
    """What the operator wants; *password* is for a service user that has to be made."""

    api_url: str
    nodes: str
    mgmt_network: str
    mgmt_cidr: str
    load_balancers: int
    image: Path | None
    ssh_key: Path | None
    compute_driver: str
    configuration: Path
    password: str = ""


class Site(Struct, frozen=True, kw_only=True):
    """The cloud, by the administrator's connection."""

    connection: Any
    wish: Wish

    @property
    def steps(self) -> list["Step"]:
        return [step for step in STEPS if step.serves(self.wish)]

    @property
    def project_id(self) -> str:
        return str(self.connection.identity.find_project(PROJECT, ignore_missing=False).id)


class Step(Struct, frozen=True, kw_only=True):
    """One thing: *find* says what is there, None for nothing; *make* makes it and says so; *remove* what we made."""

    title: str
    find: Callable[[Site], str | None]
    make: Callable[[Site], str]
    remove: Callable[[Site], Iterator[str]] = lambda _site: iter(())
    advice: str = "`statera openstack bootstrap` makes it"
    serves: Callable[[Wish], bool] = lambda _wish: True


def find_user(site: Site) -> str | None:
    identity = site.connection.identity
    user, project = identity.find_user(USER), identity.find_project(PROJECT)
    if user is None or project is None:
        return None
    given = {each.role["id"] for each in identity.role_assignments(user_id=user.id, scope_project_id=project.id)}
    wanted = [identity.find_role(name) for name in ("admin", "service")]
    known = [role for role in wanted if role]
    return str(user.id) if known and all(role.id in given for role in known) else None


def make_user(site: Site) -> str:
    identity = site.connection.identity
    project = identity.find_project(PROJECT) or identity.create_project(name=PROJECT, domain_id="default")
    user = identity.find_user(USER) or identity.create_user(
        name=USER, password=site.wish.password, domain_id="default", description=MARK)
    for name in ("admin", "service"):
        role = identity.find_role(name) or identity.create_role(name=name)
        identity.assign_project_role_to_user(project, user, role)
    return f"user {USER} with the roles admin and service in {PROJECT}"


def remove_user(site: Site) -> Iterator[str]:
    user = site.connection.identity.find_user(USER)
    if user and user.description == MARK:
        site.connection.identity.delete_user(user)
        yield USER


def find_roles(site: Site) -> str | None:
    return "all" if all(site.connection.identity.find_role(name) for name in ROLES) else None


def make_roles(site: Site) -> str:
    missing = [name for name in ROLES if not site.connection.identity.find_role(name)]
    for name in missing:
        site.connection.identity.create_role(name=name, description=MARK)
    return ", ".join(missing)


def find_endpoint(site: Site) -> str | None:
    service = site.connection.identity.find_service("octavia")
    if service is None:
        return None
    found = [each.url for each in site.connection.identity.endpoints(service_id=service.id)
             if each.interface == "public"]
    return next(iter(found), None)


def make_endpoint(site: Site) -> str:
    identity, region = site.connection.identity, site.connection.config.region_name
    service = identity.find_service("octavia") or identity.create_service(
        name="octavia", type="load-balancer", description=MARK)
    for interface in ("public", "internal", "admin"):
        identity.create_endpoint(
            service_id=service.id, interface=interface, url=site.wish.api_url, region_id=region or None)
    return site.wish.api_url


def remove_endpoint(site: Site) -> Iterator[str]:
    service = site.connection.identity.find_service("octavia")
    if service and service.description == MARK:
        site.connection.identity.delete_service(service)  # its endpoints go with it
        yield str(service.type)


def find_network(site: Site) -> str | None:
    found = site.connection.network.find_network(site.wish.mgmt_network)
    return str(found.id) if found and found.subnet_ids else None


def make_network(site: Site) -> str:
    name, network = site.wish.mgmt_network, site.connection.network
    made = network.find_network(name) or network.create_network(
        name=name, project_id=site.project_id, description=MARK)
    network.create_subnet(network_id=made.id, name=f"{name}-subnet", ip_version=4, cidr=site.wish.mgmt_cidr,
                          project_id=site.project_id)
    return f"{name} {site.wish.mgmt_cidr}; join it to a router that leads to {site.wish.nodes}"


def remove_network(site: Site) -> Iterator[str]:
    found = site.connection.network.find_network(site.wish.mgmt_network)
    if found and found.description == MARK:
        site.connection.network.delete_network(found)
        yield site.wish.mgmt_network


def find_group(site: Site) -> str | None:
    found = site.connection.network.find_security_group(GROUP, project_id=site.project_id)
    return str(found.id) if found else None


def make_group(site: Site) -> str:
    site.connection.network.create_security_group(name=GROUP, project_id=site.project_id, description=MARK)
    return f"{GROUP}, which lets nothing in: agents dial out"


def remove_group(site: Site) -> Iterator[str]:
    found = site.connection.network.find_security_group(GROUP, project_id=site.project_id)
    if found and found.description == MARK:
        site.connection.network.delete_security_group(found)
        yield GROUP


def find_flavor(site: Site) -> str | None:
    found = site.connection.compute.find_flavor(FLAVOR)
    return str(found.id) if found else None


def make_flavor(site: Site) -> str:
    made = site.connection.compute.create_flavor(name=FLAVOR, ram=MEMORY_MB, vcpus=1, disk=DISK_GB, is_public=False)
    site.connection.compute.flavor_add_tenant_access(made, site.project_id)
    return f"{FLAVOR}: 1 CPU, {MEMORY_MB} MB, {DISK_GB} GB"


def remove_flavor(site: Site) -> Iterator[str]:
    if found := site.connection.compute.find_flavor(FLAVOR):
        site.connection.compute.delete_flavor(found)
        yield FLAVOR


def find_image(site: Site) -> str | None:
    found = [image.id for image in site.connection.image.images(tag=TAG) if image.status == "active"]
    return str(found[0]) if found else None


def make_image(site: Site) -> str:
    if site.wish.image is None:
        return "still missing: build one with `statera image build` and come back with --image"
    made = site.connection.create_image(
        f"amphora-x64-haproxy-{label()}", filename=str(site.wish.image), disk_format="qcow2", container_format="bare",
        wait=True, meta={LABEL: label(), "hw_rng_model": "virtio"})
    site.connection.image.add_tag(made.id, TAG)
    return str(made.id)


def remove_image(site: Site) -> Iterator[str]:
    for image in site.connection.image.images(tag=TAG):
        if LABEL in (image.properties or {}):
            site.connection.image.delete_image(image)
            yield str(image.name)


def find_key(site: Site) -> str | None:
    """Of the service user: Nova lets nobody name another's."""
    user = site.connection.identity.find_user(USER)
    found = site.connection.compute.find_keypair(KEY, user_id=user.id) if user else None
    return str(found.name) if found else None


def make_key(site: Site) -> str:
    assert site.wish.ssh_key is not None, "the step serves no other wish"
    user = site.connection.identity.find_user(USER, ignore_missing=False)
    site.connection.compute.create_keypair(
        name=KEY, public_key=site.wish.ssh_key.read_text().strip(), user_id=user.id)
    return KEY


def remove_key(site: Site) -> Iterator[str]:
    if found := find_key(site):
        user = site.connection.identity.find_user(USER, ignore_missing=False)
        site.connection.compute.delete_keypair(found, user_id=user.id)
        yield found


def quotas(wish: Wish) -> dict[str, dict[str, int]]:
    """What the service project must be allowed, by service."""
    count, machines = wish.load_balancers, wish.load_balancers * MACHINES_EACH
    network = {"ports": count * PORTS_EACH, "security_groups": count + 2, "security_group_rules": count * RULES_EACH}
    compute = {"instances": machines, "cores": machines, "ram": machines * MEMORY_MB, "server_groups": count}
    return {"network": network} | ({"compute": compute} if wish.compute_driver == "nova" else {})


def find_quotas(site: Site) -> str | None:
    for name, wanted in quotas(site.wish).items():
        given = _quota_set(site, name)
        if any(-1 < given[kind] < number for kind, number in wanted.items()):
            return None
    return f"enough for {site.wish.load_balancers} load balancers"


def make_quotas(site: Site) -> str:
    for name, wanted in quotas(site.wish).items():
        given = _quota_set(site, name)
        more = {kind: number for kind, number in wanted.items() if -1 < given[kind] < number}
        if name == "network" and more:
            site.connection.network.update_quota(site.project_id, **more)
        elif more:
            site.connection.set_compute_quotas(site.project_id, **more)
    return f"enough for {site.wish.load_balancers} load balancers"


def _quota_set(site: Site, name: str) -> dict[str, int]:
    if name == "network":
        found = site.connection.network.get_quota(site.project_id)
        return {kind: getattr(found, kind) for kind in ("ports", "security_groups", "security_group_rules")}
    found = site.connection.get_compute_quotas(site.project_id)
    return {kind: getattr(found, kind) for kind in ("instances", "cores", "ram", "server_groups")}


def by_nova(wish: Wish) -> bool:
    return wish.compute_driver == "nova"


STEPS = (
    Step(title="service user and its roles", find=find_user, make=make_user, remove=remove_user),
    Step(title="roles of tenants", find=find_roles, make=make_roles),
    Step(title="service catalogue", find=find_endpoint, make=make_endpoint, remove=remove_endpoint),
    Step(title="management network", find=find_network, make=make_network, remove=remove_network, serves=by_nova),
    Step(title="security group of machines", find=find_group, make=make_group, remove=remove_group, serves=by_nova),
    Step(title="flavor of machines", find=find_flavor, make=make_flavor, remove=remove_flavor, serves=by_nova),
    Step(title="image of machines", find=find_image, make=make_image, remove=remove_image, serves=by_nova,
         advice="`statera image build amphora.qcow2`, then `statera openstack bootstrap --image amphora.qcow2`"),
    Step(title="SSH key", find=find_key, make=make_key, remove=remove_key,
         serves=lambda wish: by_nova(wish) and wish.ssh_key is not None),
    Step(title="quotas of the service project", find=find_quotas, make=make_quotas),
)
"""In the order in which they need each other; certificates are made by the first service that starts."""


def conf(site: Site) -> str:
    """octavia.conf for all services."""
    wish, auth = site.wish, site.connection.config.auth
    api, first = urlsplit(wish.api_url), wish.nodes.split(",")[0]
    login = (f"auth_url = {auth['auth_url']}\nauth_type = password\nusername = {USER}\npassword = {wish.password}\n"
             f"project_name = {PROJECT}\nuser_domain_id = default\nproject_domain_id = default\n")
    worker = f"compute_driver = {wish.compute_driver}\nnetwork_driver = neutron\n"
    if by_nova(wish):
        worker += (f"amp_boot_network_list = {find_network(site)}\namp_flavor_id = {find_flavor(site)}\n"
                   f"amp_secgroup_list = {find_group(site)}\namp_image_tag = {TAG}\n")
        worker += f"amp_ssh_key_name = {KEY}\n" if wish.ssh_key else ""
    sections = {
        "api_settings": f"bind_host = 0.0.0.0\nbind_port = {api.port or 9876}\nauth_strategy = keystone\n",
        "keystone_authtoken": f"www_authenticate_uri = {auth['auth_url']}\n{login}",
        "service_auth": login,
        "controller_worker": worker,
        "certificates": "cert_manager = barbican\n",
        "health_manager": (f"bind_ip = 0.0.0.0\nbind_port = {first.rpartition(':')[2]}\n"
                           f"controller_ip_port_list = {wish.nodes}\n"),
    }
    return "\n".join(f"[{name}]\n{text}" for name, text in sections.items())
