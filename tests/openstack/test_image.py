# SPDX-License-Identifier: Apache-2.0
"""`statera image upload`, into a real Glance."""

import hashlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

TAG = "statera-test"

pytestmark = pytest.mark.usefixtures("machines")


@pytest.fixture
def glance(admin: Any) -> Iterator[Any]:
    yield admin.image
    for image in admin.image.images(tag=TAG):
        admin.image.delete_image(image)


def test_the_newest_image_with_the_tag_is_what_was_uploaded_last(
    admin: Any, unstarted: Any, glance: Any, tmp_path: Path
) -> None:
    unstarted.configure(compute="nova", worker=f"amp_image_tag = {TAG}")
    content = b"QFI\xfb" + bytes(100_000)
    (tmp_path / "amphora.qcow2").write_bytes(content)
    said = [unstarted.say("image", "upload", str(tmp_path / "amphora.qcow2"), *more) for more in ((), ("--name", "b"))]
    images = list(glance.images(tag=TAG, sort="created_at:desc"))
    assert [f"image {image.id} has the tag {TAG}\n" for image in images] == said[::-1]
    newest = images[0]
    assert (newest.name, newest.status, newest.disk_format, newest.size) == ("b", "active", "qcow2", len(content))
    assert newest.hash_value == hashlib.sha512(content).hexdigest()
    assert newest.properties["statera_version"] == version("statera")
    assert images[1].name.startswith("amphora-x64-haproxy-")
