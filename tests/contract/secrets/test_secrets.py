# SPDX-License-Identifier: Apache-2.0
"""What every secret store promises, kept by ours and by a real Barbican."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import openstack_cloud as world
import pytest
from certificates import Authority
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from msgspec import Struct

from statera.drivers.protocols import Caller, Secrets
from statera.drivers.secrets.barbican import BarbicanSecrets
from statera.drivers.secrets.local import LocalSecrets
from statera.model import pem
from statera.model.secrets import Secret
from statera.store import tables
from statera.store.engine import Store
from statera.store.secrets import SecretBook, ensure_sealer

pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in world.WARNINGS]
PKCS12, TEXT = "application/octet-stream", "text/plain"


class Vault(Struct, frozen=True):
    """A secret store, who keeps something there, who does not, and how."""

    driver: Secrets
    owner: Caller
    stranger: Caller
    keep: Callable[[bytes, str], str]
    connection: Any = None


@pytest.fixture(scope="module")
def barbican() -> Iterator[Vault]:
    with world.cloud_or_skip() as admin, world.tenants(admin, 2) as (tenant, stranger):
        service = tenant.connection.key_manager
        made = []

        def keep(payload: bytes, kind: str) -> str:
            encoded = ({"payload_content_encoding": "base64"} if kind == PKCS12 else {})
            text = b64encode(payload).decode() if kind == PKCS12 else payload.decode()
            made.append(service.create_secret(payload=text, payload_content_type=kind, **encoded))
            return str(made[-1].secret_ref)

        driver = BarbicanSecrets(world.service(admin, "key_manager", "Barbican"))
        yield Vault(driver, tenant.caller, stranger.caller, keep, tenant.connection)
        for secret in made:
            service.delete_secret(secret)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Vault]:
    store = Store(f"sqlite:///{tmp_path / 'book.db'}")
    tables.metadata.create_all(store.engine)
    book = SecretBook(store, ensure_sealer(tmp_path / "master.key"))

    def keep(payload: bytes, kind: str) -> str:
        id = str(uuid4())
        book.add(Secret(id=id, project_id="tenant", name="", secret_type="opaque", payload_content_type=kind,
                        created_at=datetime.now(UTC).replace(tzinfo=None)), payload)
        return f"http://127.0.0.1/v1/secrets/{id}"

    yield Vault(LocalSecrets(book), Caller(project_id="tenant"), Caller(project_id="stranger"), keep)
    store.close()


@pytest.fixture(params=["local", "barbican"])
def vault(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def site() -> Any:
    return Authority().certificate_for("www.example.com")


def test_a_bundle_is_given_back_as_it_was_kept(vault: Vault, site: Any) -> None:
    for payload, kind in ((site.pkcs12(), PKCS12), (site.bundle.encode(), TEXT)):
        found = vault.driver.fetch(vault.keep(payload, kind), vault.owner)
        assert found is not None
        material = pem.read(found, now=datetime.now(UTC))
        assert (material.problem, material.certificates[0]) == ("", site.certificate)


def test_nobody_else_gets_it(vault: Vault, site: Any) -> None:
    assert vault.driver.fetch(vault.keep(site.bundle.encode(), TEXT), vault.stranger) is None


@pytest.mark.parametrize("ref", [
    pytest.param(f"http://127.0.0.1/v1/secrets/{uuid4()}", id="there is none of that id"),
    pytest.param("http://127.0.0.1/v1/secrets/../../x", id="no id at all"),
])
def test_what_is_not_there_is_none(vault: Vault, ref: str) -> None:
    assert vault.driver.fetch(ref, vault.owner) is None


# Barbican alone


def test_a_certificate_container_is_one_bundle(barbican: Vault) -> None:
    inner = Authority("inner", above=Authority())
    site = inner.certificate_for("www.example.com")
    how = BestAvailableEncryption(b"sesame")
    key = site.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
    parts = {"certificate": site.pem.encode(), "intermediates": inner.pem.encode(), "private_key": key,
             "private_key_passphrase": b"sesame"}
    refs = [{"name": name, "secret_ref": barbican.keep(part, TEXT)} for name, part in parts.items()]
    manager = barbican.connection.key_manager
    container = manager.create_container(name="site", type="certificate", secret_refs=refs)
    try:
        found = barbican.driver.fetch(container.container_ref, barbican.owner)
        assert found is not None
        material = pem.read(found, now=datetime.now(UTC))
        assert (material.problem, material.flaw, len(material.certificates)) == ("", "", 2)
        assert material.key is not None
        assert barbican.driver.fetch(container.container_ref, barbican.stranger) is None
    finally:
        manager.delete_container(container)


def test_the_service_user_reads_what_an_acl_lets_it(barbican: Vault, site: Any) -> None:
    """Renewals come long after the tenant's token is worth nothing."""
    ref = barbican.keep(site.bundle.encode(), TEXT)
    assert barbican.driver.fetch(ref, Caller()) is None
    with world.cloud_or_skip() as admin:
        user = admin.session.get_user_id()
        barbican.connection.key_manager.put(f"/secrets/{ref.rsplit('/', 1)[1]}/acl", json={"read": {"users": [user]}})
    assert (barbican.driver.fetch(ref, Caller()) or b"").strip() == site.bundle.encode().strip()
