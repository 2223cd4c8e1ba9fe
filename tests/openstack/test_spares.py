# SPDX-License-Identifier: Apache-2.0
"""A machine that is kept ready is a load balancer's amphora without a boot, and none is left when none is wanted."""

import time

import pytest
from openstack_cloud import PROGRAMS, run, until
from openstack_stories import active, amphorae, both, tree

BOOT_SECONDS = 300.0
"""A guest without KVM takes about a minute, and others may need the processors too."""
SIZE = "spare_amphora_pool_size"


@pytest.fixture(scope="module", autouse=True)
def by_nova(admin, statera):
    """The same services, with machines from now on, one of which is kept ready."""
    if not list(admin.image.images(tag="amphora")):
        pytest.skip("no image with the tag amphora; `statera image build` and `statera image upload` make one")
    network = next(net for net in admin.network.networks() if net.name.endswith("mgmt-net"))
    flavor = admin.compute.find_flavor("m1.amphora")
    statera.down()
    statera.configure(compute="nova", worker=f"amp_boot_network_list = {network.id}\namp_flavor_id = {flavor.id}\n"
                      f"[house_keeping]\n{SIZE} = 1")
    statera.up()
    yield
    keep(statera, 0)
    until(lambda: not list(admin.compute.servers(name="^amphora-")), seconds=BOOT_SECONDS)
    groups = [group.name for group in admin.compute.server_groups()]
    assert "octavia-lb-spares" not in groups


def keep(statera, size):
    """Have so many kept from now on."""
    path = statera.state / "octavia.conf"
    lines = [f"{SIZE} = {size}" if line.startswith(SIZE) else line for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    run(str(PROGRAMS / "statera"), "down", "--state", str(statera.state))
    statera.up()


def spares(admin):
    made = admin.compute.servers(details=True, name="^amphora-")
    return [server for server in made if not server.metadata.get("load_balancer_id")]


def test_a_machine_that_waits_serves_at_once_and_another_takes_its_place(admin, statera, street):
    [spare] = until(lambda: [one for one in spares(admin) if one.status == "ACTIVE"], seconds=BOOT_SECONDS)
    until(lambda: is_ready(statera, spare), seconds=BOOT_SECONDS)
    started = time.monotonic()
    lb = active(street.tenant, tree(street), seconds=BOOT_SECONDS)
    ready = time.monotonic() - started
    both(street, lb.vip_address)
    print(f"\nACTIVE after {ready:.1f} s, traffic after {time.monotonic() - started:.1f} s on a machine that waited")
    [amphora] = amphorae(street, lb)
    assert amphora.compute_id == spare.id
    assert spare.name == f"amphora-{amphora.id}"
    until(lambda: [one.id for one in spares(admin)] not in ([], [spare.id]), seconds=BOOT_SECONDS)
    keep(statera, 0)  # the cloud is to be as it was
    until(lambda: not spares(admin), seconds=BOOT_SECONDS)
    both(street, lb.vip_address)


def is_ready(statera, server):
    """Whether housekeeping has found that the machine's agent waits."""
    sentence = f"spare {server.name.replace('-', ' ', 1)} is ready"
    return any(sentence in path.read_text(errors="replace") for path in (statera.state / "log").glob("*"))
