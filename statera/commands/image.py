# SPDX-License-Identifier: Apache-2.0
"""`statera image`: make the machine image of amphorae, and give it to Glance."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import openstack
import openstack.exceptions

import statera
from statera.commands import home
from statera.commands.home import Home
from statera.config import Settings
from statera.drivers.cloud import Cloud
from statera.errors import SetupError

SCRIPT = Path(__file__).with_name("amphora-image.sh")
IMAGE = "amphora.qcow2"
LABEL = "statera_version"


@click.group()
def image() -> None:
    """Make the machine image of amphorae, and give it to Glance."""


@image.command()
@click.argument("out", default=IMAGE, type=click.Path(path_type=Path, dir_okay=False, resolve_path=True))
@click.option("--work", default="/var/cache/statera-image", show_default=True, help="Keeps what the next build needs.",
              type=click.Path(path_type=Path, file_okay=False, resolve_path=True))
@click.option("--mirror", help="Debian's mirror; that of this host when not given.")
@click.option("--ssh", is_flag=True, help="With an SSH server, for the key pair [controller_worker] amp_ssh_key_name.")
def build(out: Path, work: Path, mirror: str | None, ssh: bool) -> None:
    """Build an image into the file OUT. Needs root, Debian's packages and Python 3.11.

    Repeating is quick: Debian's packages are kept.
    """
    if os.geteuid() != 0:
        raise SetupError("building an image mounts a file system and must be done as root")
    if sys.version_info[:2] != (3, 11):
        raise SetupError("building an image needs the Python of its Debian, which is 3.11")
    more = {"MIRROR": mirror or "", "SSH": "1" if ssh else ""}
    arguments = [str(out), str(Path(statera.__file__).parent), f"{sys.executable} -m pip", label()]
    done = subprocess.run([str(SCRIPT), *arguments], env={**os.environ, "WORK": str(work), **more}, check=False)
    if done.returncode:
        raise SetupError(f"the image could not be built; the logs in {work} say why")


def label() -> str:
    """What the image says of itself: our version."""
    return version("statera")


@image.command()
@home.state_option
@click.argument("file", default=IMAGE, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", help="Its name in Glance.  [default: amphora-x64-haproxy-VERSION-DATE]")
def upload(state: Path, file: Path, name: str | None) -> None:
    """Give the image FILE to Glance, with the tag that new amphorae are booted from.

    Amphorae that run keep their image until they are replaced.
    """
    settings = home.read(Home(state))
    made = put(settings, file, name or f"amphora-x64-haproxy-{label()}-{datetime.now(UTC):%Y%m%d%H%M%S}")
    click.echo(f"image {made} has the tag {settings.controller_worker.amp_image_tag}")


def put(settings: Settings, file: Path, name: str) -> str:
    """The id of the new image. Raise `SetupError` with Glance's words."""
    session = Cloud(settings.service_auth).session
    connection: Any = openstack.connection.Connection(session=session, region_name=settings.glance.region_name or None)
    try:
        made = connection.create_image(
            name, filename=str(file), disk_format="qcow2", container_format="bare", wait=True,
            meta={LABEL: label(), "hw_rng_model": "virtio"})
        connection.image.add_tag(made.id, settings.controller_worker.amp_image_tag)
    except openstack.exceptions.SDKException as error:
        raise SetupError(f"Glance does not take the image: {re.sub(r'<[^>]*>', ' ', str(error))}") from error
    return str(made.id)
