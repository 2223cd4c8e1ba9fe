# SPDX-License-Identifier: Apache-2.0
"""The secret store that Statera brings along, as its users meet it: HTTP, `openstack secret`, `statera secret`."""

import base64
from collections.abc import Iterator
from pathlib import Path

import falcon
import msgspec
import pytest
from certificates import Authority
from click.testing import CliRunner
from cryptography.fernet import Fernet
from falcon import testing
from sqlalchemy import text

from statera.api import faults
from statera.api.standalone.secrets import mount
from statera.commands import home
from statera.commands.home import Home
from statera.commands.secret import secret
from statera.drivers.protocols import Caller
from statera.drivers.secrets.local import LocalSecrets
from statera.errors import GiveUp, SetupError
from statera.store.engine import Store
from statera.store.secrets import Sealer, SecretBook, ensure_sealer
from statera.store.tables import metadata

ROOT = Authority("root")
SITE, NEXT = (ROOT.certificate_for("www.example.com") for _ in range(2))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[SecretBook]:
    store = Store(f"sqlite:///{tmp_path}/statera.db")
    metadata.create_all(store.engine)
    yield SecretBook(store, ensure_sealer(tmp_path / "master.key"))
    store.close()


class Api:
    """The routes alone; whoever stands before them says who asks."""

    def __init__(self, book: SecretBook) -> None:
        app = falcon.App()
        faults.install(app)
        mount(book)(app)
        self.client = testing.TestClient(app)

    def put(self, path: str, payload: str | bytes, *, project: str = "p", roles: str = "member", **headers: str):
        headers = {"X-Project-Id": project, "X-Roles": roles, **headers}
        return self.client.simulate_put(path, headers=headers, body=payload)

    def call(self, verb: str, path: str, *, project: str = "p", roles: str = "member", **body: object):
        headers = {"X-Project-Id": project, "X-Roles": roles}
        return self.client.simulate_request(verb, path, headers=headers, body=msgspec.json.encode(body) if body else "")


@pytest.fixture
def api(book: SecretBook) -> Api:
    return Api(book)


def path_of(ref: str) -> str:
    return ref.removeprefix("http://falconframework.org")


@pytest.mark.parametrize("root", ["", "/v1", "/secrets/v1"])
def test_a_secret_is_stored_shown_listed_and_deleted(api, root):
    made = api.call("POST", f"{root}/secrets", name="site", payload=SITE.bundle, payload_content_type="text/plain")
    assert made.status_code == 201
    path = path_of(made.json["secret_ref"])
    shown = api.call("GET", path).json
    assert (shown["name"], shown["status"], shown["content_types"]) == ("site", "ACTIVE", {"default": "text/plain"})
    assert SITE.key_pem not in str(shown)
    assert [each["name"] for each in api.call("GET", f"{root}/secrets").json["secrets"]] == ["site"]
    assert api.call("DELETE", path).status_code == 204
    assert api.call("GET", path).status_code == 404


def test_its_own_project_alone_sees_a_secret(api, book):
    ref = api.call("POST", "/v1/secrets", payload=SITE.bundle).json["secret_ref"]
    assert api.call("GET", path_of(ref), project="other").status_code == 404
    assert api.call("DELETE", path_of(ref), project="other").status_code == 404
    assert api.call("GET", "/v1/secrets", project="other").json["secrets"] == []
    driver = LocalSecrets(book)
    assert driver.fetch(ref, Caller(project_id="p")) == SITE.bundle.encode()
    assert driver.fetch(ref, Caller(project_id="other")) is None
    assert driver.fetch(ref, Caller()) is None


def test_who_only_reads_stores_nothing(api):
    assert api.call("POST", "/v1/secrets", roles="reader", payload="x").status_code == 403


@pytest.mark.parametrize("ref", ["", "nonsense", "http://else/1", "../../etc/passwd"])
def test_a_reference_that_leads_nowhere_holds_nothing(book, ref):
    assert LocalSecrets(book).fetch(ref, Caller(project_id="p")) is None


def test_bytes_come_as_base64(api, book):
    bundle = SITE.pkcs12()
    made = api.call("POST", "/v1/secrets", payload=base64.encodebytes(bundle).decode(),
                    payload_content_type="application/octet-stream", payload_content_encoding="base64")
    assert LocalSecrets(book).fetch(made.json["secret_ref"], Caller(project_id="p")) == bundle


def test_a_passphrase_opens_a_bundle_once(api, book):
    locked = base64.encodebytes(SITE.pkcs12(b"hush")).decode()
    bundle = {"payload": locked, "payload_content_encoding": "base64"}
    made = api.call("POST", "/v1/secrets", **bundle, passphrase="hush")
    assert LocalSecrets(book).fetch(made.json["secret_ref"], Caller(project_id="p")) == SITE.bundle.encode()
    refused = api.call("POST", "/v1/secrets", **bundle, passphrase="wrong")
    assert refused.status_code == 400
    assert "it cannot be used: Invalid password" in refused.json["faultstring"]


def test_until_when_a_certificate_is_valid_is_shown(api):
    ref = path_of(api.call("POST", "/v1/secrets", payload=SITE.bundle).json["secret_ref"])
    until = f"{SITE.certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%S}"
    assert api.call("GET", ref).json["expiration"] == until
    assert [each["expiration"] for each in api.call("GET", "/v1/secrets").json["secrets"]] == [until]
    words = path_of(api.call("POST", "/v1/secrets", payload="no certificate").json["secret_ref"])
    assert api.call("GET", words).json["expiration"] is None


def test_a_secret_holds_something_else_from_now_on(api, book):
    ref = api.call("POST", "/v1/secrets", payload=SITE.bundle).json["secret_ref"]
    assert api.put(path_of(ref), NEXT.bundle).status_code == 204
    assert LocalSecrets(book).fetch(ref, Caller(project_id="p")) == NEXT.bundle.encode()
    encoded = {"Content-Type": "application/octet-stream", "Content-Encoding": "base64"}
    bundle = SITE.pkcs12()
    assert api.put(path_of(ref), base64.encodebytes(bundle), **encoded).status_code == 204
    assert LocalSecrets(book).fetch(ref, Caller(project_id="p")) == bundle


@pytest.mark.parametrize(("payload", "who", "status"), [
    pytest.param(ROOT.certificate_for("late.example.com", days=-1).bundle, {}, 400, id="expired"),
    pytest.param(SITE.pem, {}, 400, id="no key"),
    pytest.param("", {}, 400, id="empty"),
    pytest.param("x" * 1_000_001, {}, 400, id="too much"),
    pytest.param(SITE.bundle, {"roles": "reader"}, 403, id="who only reads"),
    pytest.param(SITE.bundle, {"project": "other"}, 404, id="another project"),
])
def test_what_cannot_take_a_secrets_place_is_refused(api, book, payload, who, status):
    ref = api.call("POST", "/v1/secrets", payload=SITE.bundle).json["secret_ref"]
    assert api.put(path_of(ref), payload, **who).status_code == status
    assert LocalSecrets(book).fetch(ref, Caller(project_id="p")) == SITE.bundle.encode()


@pytest.mark.parametrize("body", [
    pytest.param({"name": "empty"}, id="no payload"),
    pytest.param({"payload": 5}, id="a number"),
    pytest.param({"payload": "***", "payload_content_encoding": "base64"}, id="not base64"),
    pytest.param({"payload": "eA==", "payload_content_encoding": "rot13"}, id="unknown encoding"),
    pytest.param({"payload": "x", "name": "n" * 256}, id="long name"),
    pytest.param({"payload": "x" * 1_000_001}, id="a million characters and one"),
])
def test_what_is_no_secret_is_refused(api, body):
    refused = api.call("POST", "/v1/secrets", **body)
    assert refused.status_code == 400
    assert "Invalid secret" in refused.json["faultstring"]


# The command.


@pytest.fixture
def statera(tmp_path):
    """Runs `statera secret …` on a state folder that was prepared as `statera up` does."""
    place = Home(tmp_path / "state")
    with home.held(place):
        settings = home.prepare(place, home.binds(place, None, None))
    store = Store(settings.database_url)
    metadata.create_all(store.engine)
    store.close()

    def run(*args: object):
        words = [str(arg) for arg in (*args, "--state", place.state)]
        return CliRunner().invoke(secret, words, catch_exceptions=True)

    return run


def test_the_command_keeps_lists_and_removes(statera, tmp_path):
    certificate, key = tmp_path / "site.pem", tmp_path / "site.key"
    certificate.write_text(SITE.pem)
    key.write_text(SITE.key_pem)
    ref = statera("add", "site", certificate, key).output.strip()
    assert ref.startswith("http://127.0.0.1:9876/v1/secrets/")
    until = f"{SITE.certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
    assert f"{until}  {ref}  site" in statera("list").output
    statera("remove", ref)
    assert statera("list").output == ""


def test_the_command_opens_what_a_passphrase_locks(statera, tmp_path):
    bundle, passphrase = tmp_path / "site.p12", tmp_path / "passphrase"
    bundle.write_bytes(SITE.pkcs12(b"hush"))
    passphrase.write_text("hush\n")
    assert "cannot read the files" in str(statera("add", "site", bundle).exception)
    assert "/v1/secrets/" in statera("add", "--passphrase-file", passphrase, "site", bundle).output


def test_the_command_renews_and_refuses_what_would_be_no_renewal(statera, tmp_path):
    bundle, renewed, authority = (tmp_path / name for name in ("site.pem", "renewed.pem", "ca.pem"))
    bundle.write_text(SITE.bundle)
    renewed.write_text(NEXT.bundle)
    authority.write_text(ROOT.pem)
    ref = statera("add", "site", bundle).output.strip()
    assert statera("renew", ref, renewed).exit_code == 0
    assert "there is no private key in it" in str(statera("renew", ref, authority).exception)
    assert "there is no secret http://elsewhere/1" in str(statera("renew", "http://elsewhere/1", renewed).exception)


def test_the_command_refuses_what_no_listener_could_use(statera, tmp_path):
    bundle = tmp_path / "late.pem"
    bundle.write_text(ROOT.certificate_for("late.example.com", days=-1).bundle)
    assert "the certificate cannot be used: it ran out" in str(statera("add", "late", bundle).exception)
    assert "has no user nobody" in str(statera("list", "--user", "nobody").exception)


# At rest.


def test_what_is_kept_is_sealed(api, book, tmp_path):
    api.call("POST", "/v1/secrets", payload=SITE.bundle)
    with book.store.read() as connection:
        (kept,) = connection.execute(text("SELECT sealed FROM secrets")).scalars()
    assert "BEGIN" not in kept
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600


def test_the_master_key_is_made_once_and_can_be_changed(tmp_path):
    file = tmp_path / "keys" / "master.key"
    sealed = ensure_sealer(file).seal(b"secret")
    assert ensure_sealer(file).open(sealed) == b"secret"
    file.write_bytes(Fernet.generate_key() + b"\n" + file.read_bytes())
    renewed = ensure_sealer(file)
    assert renewed.open(sealed) == b"secret"
    assert Sealer(file.read_bytes().split()[0]).open(renewed.seal(b"new")) == b"new"


def test_another_hosts_key_opens_nothing_and_says_what_to_do(tmp_path):
    sealed = ensure_sealer(tmp_path / "one").seal(b"secret")
    with pytest.raises(GiveUp, match="master_key_file on every host"):
        ensure_sealer(tmp_path / "other").open(sealed)


def test_a_file_that_holds_no_key_stops_the_command(tmp_path):
    (tmp_path / "master.key").write_text("nonsense")
    with pytest.raises(SetupError, match="cannot use the master key"):
        ensure_sealer(tmp_path / "master.key")
