# SPDX-License-Identifier: Apache-2.0
"""The state folder: what `statera up` writes into it once, and how it is completed or refused later."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec
from msgspec import Struct, structs
from oslo_config import cfg

from statera.api.standalone.users import User, UsersFile, hash_password, load_users
from statera.config import Settings, load
from statera.errors import SetupError

DEFAULT_STATE = "/var/lib/statera"
ADMIN = "admin"
ADMIN_ROLES = ("admin", "member", "reader", "load-balancer_admin")

state_option = click.option(
    "--state", default=DEFAULT_STATE, envvar="STATERA_STATE", show_default=True, show_envvar=True,
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True), help="Folder that holds everything.",
)

CONFIGURATION = """\
# Written once, by `statera up`. Change what you like and start again; what is not here has its default.

[DEFAULT]
state_path = {state}

[api_settings]
bind_host = {binds.api.host}
bind_port = {binds.api.port}
auth_strategy = basic
users_file = {state}/users.yaml

[database]
connection = sqlite:///{state}/statera.db

[controller_worker]
compute_driver = hosts
network_driver = local

[certificates]
cert_manager = local

[health_manager]
bind_ip = {binds.nodes.host}
bind_port = {binds.nodes.port}

[agent]
endpoints = {binds.nodes}
# Members may be programs of this host. Where others may create load balancers, say false.
services_on_bridges = true
"""


class Bind(Struct, frozen=True):
    """Where a service listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Binds(Struct, frozen=True, kw_only=True):
    """*nodes* is where the health manager waits for nodes."""

    api: Bind
    nodes: Bind


API, NODES = Bind("127.0.0.1", 9876), Bind("127.0.0.1", 5555)


class Home(Struct, frozen=True):
    """The folder *state* and the names of what is in it."""

    state: Path

    @property
    def configuration(self) -> Path:
        return self.state / "octavia.conf"

    @property
    def users(self) -> Path:
        return self.state / "users.yaml"

    @property
    def clouds(self) -> Path:
        return self.state / "clouds.yaml"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def lock(self) -> Path:
        return self.state / "up.lock"


def binds(home: Home, api: Bind | None, nodes: Bind | None) -> Binds:
    """Where the services listen: as octavia.conf says, else as asked, else the defaults.

    Raise `SetupError` if an address is asked for that differs from the one in octavia.conf.
    """
    if not home.configuration.exists():
        return Binds(api=api or API, nodes=nodes or NODES)
    kept = binds_of(read(home))
    for option, asked, held in (("--api-bind", api, kept.api), ("--health-bind", nodes, kept.nodes)):
        if asked not in (None, held):
            raise SetupError(f"{home.configuration} says {held}: change it there, or leave out {option} {asked}")
    return kept


def prepare(home: Home, binds: Binds) -> Settings:
    """Complete the folder's files and read the configuration; raise `SetupError` if the folder cannot be used."""
    try:
        home.logs.mkdir(mode=0o700, exist_ok=True)
        if not home.configuration.exists():
            write(home.configuration, CONFIGURATION.format(state=home.state, binds=binds))
        settings = read(home)
        write_credentials(home, settings)
    except OSError as error:
        raise SetupError(f"cannot write into {home.state}: {error.strerror}; choose another with --state") from error
    return settings


def read(home: Home) -> Settings:
    """What octavia.conf says; raise `SetupError` when there is none, for then nothing was ever started here."""
    if not home.configuration.exists():
        raise SetupError(f"there is nothing in {home.state}; `statera up --state {home.state}` starts it")
    return load(cfg.ConfigOpts(), [], prog="statera", files=[str(home.configuration)])


def binds_of(settings: Settings) -> Binds:
    api, nodes = settings.api_settings, settings.health_manager
    return Binds(api=Bind(api.bind_host, api.bind_port), nodes=Bind(nodes.bind_ip, nodes.bind_port))


def api_url(settings: Settings) -> str:
    """Where clients on this host find the api."""
    return f"http://{local(binds_of(settings).api)}"


def local(bind: Bind) -> Bind:
    """*bind* as seen from this host: a listener on all addresses is met on the loopback."""
    return Bind({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host), bind.port)


def write_credentials(home: Home, settings: Settings) -> None:
    """Complete users.yaml and clouds.yaml, so that the administrator gets in; others' entries stay."""
    password = kept_password(home)
    if password is None or not home.users.exists():
        password = password or secrets.token_urlsafe(18)
        users = load_users(home.users) if home.users.exists() else {}
        default = User(name=ADMIN, password="", project_id=secrets.token_hex(16), roles=ADMIN_ROLES)
        admin = structs.replace(users.get(ADMIN, default), password=hash_password(password))
        file = UsersFile(users=tuple((users | {ADMIN: admin}).values()))
        write(home.users, msgspec.yaml.encode(file).decode())
    clouds = msgspec.yaml.encode({"clouds": {"statera": cloud(api_url(settings), password)}}).decode()
    if not home.clouds.exists() or home.clouds.read_text() != clouds:
        write(home.clouds, clouds)


def cloud(url: str, password: str) -> dict[str, Any]:
    """What OpenStack's clients need to know."""
    return {
        "auth_type": "http_basic",
        "auth": {"endpoint": url, "username": ADMIN, "password": password},
        "load_balancer_endpoint_override": url,
        "network_endpoint_override": f"{url}/network",
    }


def kept_password(home: Home) -> str | None:
    """The administrator's password as clouds.yaml holds it; None if the file is missing or says nothing."""
    if not home.clouds.exists():
        return None
    try:
        found = msgspec.yaml.decode(home.clouds.read_bytes(), type=dict[str, dict[str, Any]])
        return str(found["clouds"]["statera"]["auth"]["password"])
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise SetupError(f"{home.clouds} is not what `statera up` wrote; remove it to get a new one") from error


def write(path: Path, text: str) -> None:
    """Replace *path* at once by a file that only its owner reads."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


@contextmanager
def held(home: Home) -> Iterator[None]:
    """Be the only one who runs this folder's services; the folder is made if need be."""
    try:
        home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.state.chmod(0o700)
        file = home.lock.open("a+b")
    except OSError as error:
        raise SetupError(f"cannot use the folder {home.state}: {error.strerror}; choose another with --state"
                         ) from error
    with file:
        if not _try_lock(file):
            raise SetupError(f"it runs already, as process {holder(home)}; `statera down` stops it")
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def holder(home: Home) -> int | None:
    """The process that runs this folder's services, None if nobody does."""
    if not home.lock.exists():
        return None
    with home.lock.open("rb") as file:
        return None if _try_lock(file) else int(file.read() or 0)


def _try_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(home: Home) -> None:
    """Delete the folder; raise `SetupError` rather than delete one that is not Statera's."""
    if not home.configuration.exists():
        raise SetupError(f"{home.state} holds no octavia.conf; it is not removed")
    shutil.rmtree(home.state)
