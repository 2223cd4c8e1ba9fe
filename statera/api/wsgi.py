# SPDX-License-Identifier: Apache-2.0
"""The API for any WSGI server: `statera.api.wsgi:application`, built at its first request."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from oslo_config import cfg

from statera.api import app
from statera.api.standalone import neutron, secrets
from statera.commands import build, start
from statera.config import Settings
from statera.store.engine import Store
from statera.store.networks import NetworkBook

CONFIG = "OS_OCTAVIA_CONFIG"
"""Environment variable that names the configuration file, where octavia.conf is not in its usual place."""


def load(settings: Settings, conf: cfg.ConfigOpts) -> app.Wsgi:
    """The application with its real database and network; local networks and secrets come with their own APIs."""
    store = build.open_store(settings)
    return app.build(settings, conf, store, build.network(settings, store), mounts=list(mounts(settings, store)),
                     secrets=build.secrets(settings, store), sealer=build.sealer(settings),
                     forecast=build.forecast(settings, store))


def mounts(settings: Settings, store: Store) -> Iterator[app.Mount]:
    """The other APIs that Statera stands in for."""
    if settings.controller_worker.network_driver == "local":
        yield neutron.mount(NetworkBook(store), prefix=app.FOREIGN)
    if settings.certificates.cert_manager == "local":
        yield secrets.mount(build.secret_book(settings, store))


class Lazy:
    """An application that reads its configuration when it is first asked, in the process that serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: app.Wsgi | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            if self._app is None:
                self._app = load(*start.configure("octavia-api", arguments(os.environ.get(CONFIG))))
        return self._app(environ, start_response)


def arguments(path: str | None) -> list[str]:
    return ["--config-file", path] if path else []


application = Lazy()
