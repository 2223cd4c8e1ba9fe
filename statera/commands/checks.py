# SPDX-License-Identifier: Apache-2.0
"""What must hold before `statera up` changes anything: a table of questions, each with what to do about a no."""

import os
import shutil
import socket
from collections.abc import Callable

from statera.commands.home import Bind, Binds, Home, holder
from statera.errors import SetupError

PROGRAMS = {"haproxy": "haproxy", "keepalived": "keepalived", "nft": "nftables", "ip": "iproute2"}
"""What nodes run, and the Debian package that brings it."""

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

Check = Callable[[Home, Binds], str | None]
"""None, or the sentence that says what is wrong and what to do."""


def not_root(_home: Home, _binds: Binds) -> str | None:
    if os.geteuid() == 0:
        return None
    return ("it must be root, because it makes network namespaces, bridges and addresses; as another user only the api"
            " works: octavia-api with [controller_worker] compute_driver = noop and network_driver = noop")


def missing_programs(_home: Home, _binds: Binds) -> str | None:
    missing = packages_missing_in(f"{os.environ.get('PATH', '')}:{SBIN}")
    return f"programs are missing: apt-get install -y {' '.join(missing)}" if missing else None


def packages_missing_in(path: str) -> list[str]:
    return [package for program, package in PROGRAMS.items() if not shutil.which(program, path=path)]


def running_already(home: Home, _binds: Binds) -> str | None:
    pid = holder(home)
    return f"it runs already, as process {pid}; `statera down` stops it" if pid else None


def taken_port(_home: Home, binds: Binds) -> str | None:
    for option, bind in (("--api-bind", binds.api), ("--health-bind", binds.nodes)):
        if problem := _cannot_bind(bind):
            return f"cannot listen on {bind}: {problem}; stop what listens there, or choose another with {option}"
    return None


CHECKS: tuple[Check, ...] = (not_root, missing_programs, running_already, taken_port)


def check(home: Home, binds: Binds) -> None:
    """Raise `SetupError` with the first sentence that there is."""
    for question in CHECKS:
        if sentence := question(home, binds):
            raise SetupError(sentence)


def _cannot_bind(bind: Bind) -> str | None:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
        except OSError as error:
            return error.strerror or str(error)
    return None
