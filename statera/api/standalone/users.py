# SPDX-License-Identifier: Apache-2.0
"""Who is asking, without Keystone: HTTP Basic credentials against a users file.

The file is YAML: `users` lists name, password (a bcrypt hash), project_id and roles. It is read again when it changes.
"""

import base64
import hmac
import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
import msgspec
from msgspec import Struct

from statera.errors import SetupError

LOG = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

NOBODY = "$2b$12$KIXQ4u5gq5h8c6wq8Z0b7uQ6dGgkz1t1cV6ZqvH0eZ1y8rYl0b6dK"
"""A hash that no password has: unknown names take as long as known ones."""
LONGEST_CACHE = 1024


class User(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str
    project_id: str
    roles: tuple[str, ...] = ("member",)


class UsersFile(Struct, frozen=True, forbid_unknown_fields=True):
    users: tuple[User, ...]


class Credentials(NamedTuple):
    name: str
    password: str


def load_users(path: Path) -> dict[str, User]:
    """The users by name; raise `SetupError` that names the file and what is wrong with it."""
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=UsersFile)
    except OSError as error:
        raise SetupError(f"cannot read [api_settings] users_file {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SetupError(f"users file {path} is not usable: {error}") from error
    return {user.name: user for user in found.users}


def hash_password(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode()


class Users:
    """The users of *path* as they are now. Safe to share between threads.

    bcrypt takes a tenth of a second on purpose, so a verified password is remembered, as a keyed digest
    that is worth nothing outside this process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._read_at = 0
        self._users: dict[str, User] = {}
        self._verified: set[bytes] = set()

    def check(self, credentials: Credentials) -> User | None:
        """The user, None for a wrong name or password."""
        user = self._current().get(credentials.name)
        hashed = user.password if user else NOBODY
        digest = hmac.digest(self._key, "\0".join((hashed, credentials.password)).encode(), "sha256")
        if digest not in self._verified and not _matches(credentials.password, hashed):
            return None
        with self._lock:
            if len(self._verified) >= LONGEST_CACHE:
                self._verified.clear()
            self._verified.add(digest)
        return user

    def _current(self) -> dict[str, User]:
        """The file's users, the last good ones while it cannot be used."""
        changed_at = self._path.stat().st_mtime_ns if self._path.exists() else 0
        with self._lock:
            if changed_at != self._read_at:
                self._read_at = changed_at
                try:
                    self._users = load_users(self._path)
                except SetupError as error:
                    LOG.error("%s; the users stay as they were", error)
            return self._users


def _matches(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:  # longer than bcrypt reads, or no hash at all
        return False


class BasicAuth:
    """WSGI middleware: sets the headers that keystonemiddleware would set, and trusts none from outside.

    *open_paths* are answered without credentials: version documents and health checks.
    """

    def __init__(self, app: Application, users_file: str, *, open_paths: Iterable[str] = ()) -> None:
        self.app = app
        self.users = Users(Path(users_file))
        self.open_paths = frozenset(open_paths)
        load_users(Path(users_file))

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        clean = {name: value for name, value in environ.items() if not is_identity(name)}
        credentials = credentials_of(environ.get("HTTP_AUTHORIZATION", ""))
        user = self.users.check(credentials) if credentials else None
        if user is not None:
            return self.app(clean | headers_of(user), start_response)
        if environ.get("PATH_INFO", "") in self.open_paths:
            return self.app(clean, start_response)
        return refuse(start_response)


def is_identity(name: str) -> bool:
    """Whether the WSGI variable says who is asking, which only we may say."""
    return name.startswith(IDENTITY_PREFIXES)


IDENTITY_PREFIXES = (
    "HTTP_X_AUTH_TOKEN", "HTTP_X_SERVICE", "HTTP_X_USER", "HTTP_X_PROJECT", "HTTP_X_TENANT", "HTTP_X_ROLE",
    "HTTP_X_DOMAIN", "HTTP_X_IDENTITY", "HTTP_X_IS_ADMIN", "HTTP_OPENSTACK_SYSTEM_SCOPE",
)


def credentials_of(authorization: str) -> Credentials | None:
    """Name and password of a Basic `Authorization` header; None for anything else."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except ValueError:  # neither base64 nor text
        return None
    return Credentials(name, password) if colon else None


def headers_of(user: User) -> Environ:
    """The user as WSGI variables."""
    return {
        "HTTP_X_IDENTITY_STATUS": "Confirmed", "HTTP_X_USER_ID": user.name, "HTTP_X_USER_NAME": user.name,
        "HTTP_X_PROJECT_ID": user.project_id, "HTTP_X_PROJECT_NAME": user.project_id,
        "HTTP_X_ROLES": ",".join(user.roles),
    }


def refuse(start_response: StartResponse) -> Iterable[bytes]:
    """401 that asks for Basic credentials."""
    body = msgspec.json.encode({
        "faultcode": "Client", "faultstring": "Authentication required: wrong or no user name and password.",
        "debuginfo": None, "error": {"code": 401, "title": "Unauthorized", "message": "Authentication required."},
    })
    status = HTTPStatus.UNAUTHORIZED
    start_response(f"{status.value} {status.phrase}", [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))),
        ("WWW-Authenticate", 'Basic realm="Statera", charset="UTF-8"'),
    ])
    return [body]
