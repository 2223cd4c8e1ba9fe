# SPDX-License-Identifier: Apache-2.0
"""Servers that another Octavia made, as `statera adopt` stops and starts them: real ones of Nova's."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openstack_cloud as world
import pytest
from openstack_cloud import until

from statera.drivers.compute.theirs import NovaMachines
from statera.errors import GiveUp

pytestmark = pytest.mark.usefixtures("machines")


@pytest.fixture
def server(admin: Any) -> Iterator[Any]:
    """A server such as Octavia's amphorae are; whether it boots is nobody's business here."""
    image = next(iter(admin.image.images(status="active")), None)
    flavor = next(iter(admin.compute.flavors()), None)
    if image is None or flavor is None:
        pytest.skip("the cloud has no image or no flavor")
    made = admin.compute.create_server(
        name=f"amphora-{uuid4()}", image_id=image.id, flavor_id=flavor.id, networks="none")
    until(lambda: admin.compute.get_server(made.id).status in ("ACTIVE", "ERROR"))
    yield made
    admin.compute.delete_server(made.id)
    until(lambda: admin.compute.find_server(made.id) is None)


def test_a_server_is_stopped_and_started_again(admin: Any, server: Any) -> None:
    machines = NovaMachines(world.service(admin, "compute", "Nova"))
    for _ in range(2):  # repeating is harmless
        machines.stop(server.id)
        assert admin.compute.get_server(server.id).status == "SHUTOFF"
    machines.start(server.id)
    assert admin.compute.get_server(server.id).status == "ACTIVE"


def test_a_server_that_is_no_more_is_stopped_and_cannot_be_started(admin: Any) -> None:
    machines = NovaMachines(world.service(admin, "compute", "Nova"))
    machines.stop(str(uuid4()))
    with pytest.raises(GiveUp, match="is no more, so nothing can go back to it"):
        machines.start(str(uuid4()))
