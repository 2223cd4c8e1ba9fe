# SPDX-License-Identifier: Apache-2.0
"""Basic credentials: who gets in, and that nobody says who he is himself."""

import base64
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from statera.api.standalone.users import BasicAuth, load_users
from statera.errors import SetupError

USERS = """users:
- name: admin
  password: "{hashed}"
  project_id: 0123456789abcdef0123456789abcdef
  roles: [admin, member]
"""


def seen(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """An app that answers with the identity that it was given."""
    start_response("200 OK", [])
    return [";".join(f"{k}={v}" for k, v in sorted(environ.items()) if k.startswith("HTTP_X_")).encode()]


def ask(app: BasicAuth, credentials: str | None = None, path: str = "/v2/lbaas", **headers: str) -> tuple[str, str]:
    environ: dict[str, Any] = {"PATH_INFO": path, **headers}
    if credentials is not None:
        environ["HTTP_AUTHORIZATION"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    answer: list[Any] = []
    body = app(environ, lambda status, headers: answer.extend((status, dict(headers))))
    return answer[0], b"".join(body).decode()


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users.yaml"
    path.write_text(USERS.format(hashed=bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode()))
    return path


@pytest.fixture
def app(users_file: Path) -> BasicAuth:
    return BasicAuth(seen, str(users_file), open_paths=["/"])


def test_the_right_password_sets_the_identity_headers(app: BasicAuth) -> None:
    status, body = ask(app, "admin:s3cret")
    assert status == "200 OK"
    assert "HTTP_X_PROJECT_ID=0123456789abcdef0123456789abcdef" in body
    assert "HTTP_X_ROLES=admin,member" in body


@pytest.mark.parametrize("credentials", [
    pytest.param(None, id="no credentials"),
    pytest.param("admin:wrong", id="wrong password"),
    pytest.param("nobody:s3cret", id="unknown name"),
    pytest.param("admin", id="no colon"),
    pytest.param("admin:" + "x" * 100, id="endless password"),
])
def test_everything_else_is_401(app: BasicAuth, credentials: str | None) -> None:
    assert ask(app, credentials)[0] == "401 Unauthorized"


def test_garbage_in_the_header_is_401(app: BasicAuth) -> None:
    assert ask(app, HTTP_AUTHORIZATION="Basic \xff")[0] == "401 Unauthorized"
    assert ask(app, HTTP_AUTHORIZATION="Bearer abc")[0] == "401 Unauthorized"


def test_identity_headers_from_outside_are_dropped(app: BasicAuth) -> None:
    forged = {"HTTP_X_PROJECT_ID": "victim", "HTTP_X_ROLES": "admin", "HTTP_X_USER_ID": "root"}
    assert ask(app, path="/", **forged) == ("200 OK", "")
    assert "victim" not in ask(app, "admin:s3cret", **forged)[1]


def test_a_verified_password_is_not_hashed_again(app: BasicAuth) -> None:
    ask(app, "admin:s3cret")
    assert len(app.users._verified) == 1
    ask(app, "admin:s3cret")
    ask(app, "admin:wrong")
    assert len(app.users._verified) == 1


def test_a_changed_file_counts_at_once(app: BasicAuth, users_file: Path) -> None:
    assert ask(app, "admin:s3cret")[0] == "200 OK"
    users_file.write_text(USERS.format(hashed=bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()))
    os.utime(users_file, ns=(1, 1))
    assert ask(app, "admin:s3cret")[0] == "401 Unauthorized"
    assert ask(app, "admin:new")[0] == "200 OK"


@pytest.mark.parametrize(("text", "named"), [
    pytest.param("users: [", "not usable", id="broken YAML"),
    pytest.param("users: [{name: a}]", "password", id="a field is missing"),
    pytest.param("users: [{name: a, password: b, project_id: c, rules: []}]", "rules", id="an unknown field"),
])
def test_an_unusable_file_is_named_with_its_fault(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "users.yaml"
    path.write_text(text)
    with pytest.raises(SetupError, match=named) as caught:
        load_users(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        load_users(tmp_path / "nowhere.yaml")
