# SPDX-License-Identifier: Apache-2.0
"""octavia-driver-agent: where drivers of other providers say what became of things, and ask about them."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from oslo_config import cfg
from oslo_log import log
from sqlalchemy import Table
from sqlalchemy.exc import SQLAlchemyError
from stevedore import driver as stevedore
from stevedore.exception import NoMatches

from statera.commands import build, start
from statera.config import DriverAgent, Settings
from statera.drivers.provider.objects import shown
from statera.drivers.provider.sockets import Document, serving
from statera.errors import SetupError
from statera.model.status import Operating, Provisioning
from statera.store import delegated
from statera.store.engine import Store
from statera.store.migrations import require_schema
from statera.store.secrets import Sealer

LOG = log.getLogger(__name__)
AGENTS = "octavia.driver_agent.provider_agents"
DONE: Document = {"status_code": 200}
POLL_SECONDS = 0.05
AGAIN_SECONDS = 5.0


def main() -> None:
    start.run("octavia-driver-agent", serve)


def serve(settings: Settings, conf: cfg.ConfigOpts) -> None:
    """Serve the sockets and keep the providers' own agents running until a signal says stop. Raise `SetupError`."""
    stop = start.stop_signal()
    store = build.open_store(settings)
    require_schema(store)
    with ExitStack() as stack:
        for socket in sockets(Desk(store, settings.driver_agent, build.sealer(settings)), settings.driver_agent):
            stack.enter_context(socket)
        LOG.info("waiting for drivers at %s", settings.driver_agent.status_socket_path)
        stack.enter_context(agents(settings.driver_agent, list(conf.config_file or ())))
        stop.wait()
    store.close()


def sockets(desk: "Desk", options: DriverAgent) -> Iterator[Any]:
    """The three, each to be entered."""
    serves: Mapping[str, Callable[[Document], Document]] = {
        options.status_socket_path: desk.status, options.stats_socket_path: desk.statistics,
        options.get_socket_path: desk.get,
    }
    for path, answer in serves.items():
        yield serving(Path(path), answer, timeout=options.request_timeout, most=options.max_requests)


class Desk(Struct, frozen=True):
    """What is answered to a driver."""

    store: Store
    options: DriverAgent
    sealer: Sealer | None = None

    def status(self, document: Document) -> Document:
        """Take statuses, the innermost objects first; the first that makes no sense ends it and is named."""
        for kind, table in delegated.KINDS.items():
            for record in document.get(kind) or ():
                try:
                    self._take(table, *_statuses(record))
                except (KeyError, TypeError, ValueError, SQLAlchemyError) as error:
                    return _failed(error, status_object=kind, status_object_id=_id_of(record))
        return DONE

    def statistics(self, document: Document) -> Document:
        """Take totals of listeners."""
        for record in document.get("listeners") or ():
            try:
                totals = {name: int(record[name]) for name in delegated.COUNTERS}
                with self.store.write() as connection:
                    delegated.count(connection, str(record["id"]), totals)
            except (KeyError, TypeError, ValueError, SQLAlchemyError) as error:
                return _failed(error, stats_object="listeners", stats_object_id=_id_of(record))
        return DONE

    def get(self, document: Document) -> Document:
        """The object with all its attributes; nothing for one that is not there."""
        table, id = delegated.KINDS.get(str(document.get("object"))), str(document.get("id"))
        if table is None:
            return {}
        with self.store.read() as connection:
            lb_id = delegated.owner(connection, table, id)
            if lb_id is None:
                return {}
            whole = delegated.load_whole(connection, lb_id, sealer=self.sealer)
            found: Document = shown(table.name, id, whole).to_dict(recurse=True, render_unsets=True)
        return found

    def _take(self, table: Table, id: str, provisioning: str | None, operating: str | None) -> None:
        """Drivers are told before the API commits, so an object may be answered for that is not there yet."""
        end = time.monotonic() + (0 if provisioning == Provisioning.DELETED else self.options.unknown_object_seconds)
        while not self._knows(table, id):
            if time.monotonic() >= end:
                LOG.info("a driver says %s of %s %s, which is not there (any more)", provisioning, table.name, id)
                return
            time.sleep(POLL_SECONDS)
        with self.store.write() as connection:
            delegated.answer(connection, table, id, provisioning=provisioning, operating=operating)

    def _knows(self, table: Table, id: str) -> bool:
        with self.store.read() as connection:
            return delegated.owner(connection, table, id) is not None


def _statuses(record: Any) -> tuple[str, str | None, str | None]:
    """Id and both statuses. Raise for anything else."""
    if not isinstance(record, dict):
        raise TypeError(f"{record!r} is not an object with an id")
    provisioning, operating = record.get("provisioning_status"), record.get("operating_status")
    return (
        str(record["id"]), str(Provisioning(provisioning)) if provisioning else None,
        str(Operating(operating)) if operating else None,
    )


def _failed(error: Exception, **about: str | None) -> Document:
    LOG.warning("a driver's report cannot be taken: %s %s", error, about)
    text = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    return {"status_code": 500, "fault_string": text, **about}


def _id_of(record: Any) -> str | None:
    return str(record["id"]) if isinstance(record, dict) and "id" in record else None


# The providers' own agents: long-running functions that drivers bring along.


@contextmanager
def agents(options: DriverAgent, config_files: list[str]) -> Iterator[None]:
    """Keep a process for each, started again when it ends; all end with the block, the slow ones by force."""
    functions = {name: _load(name) for name in options.enabled_provider_agents}
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    keepers = [
        threading.Thread(target=_keep, args=(name, partial(context.Process, target=_run, args=(
            function, stop, config_files)), stop, options.provider_agent_shutdown_timeout), name=name)
        for name, function in functions.items()
    ]
    for keeper in keepers:
        keeper.start()
    try:
        yield
    finally:
        stop.set()
        for keeper in keepers:
            keeper.join()


def _load(name: str) -> Callable[[Any], None]:
    try:
        function: Callable[[Any], None] = stevedore.DriverManager(AGENTS, name, invoke_on_load=False).driver
    except NoMatches:
        raise SetupError(f"[driver_agent] enabled_provider_agents names {name}, and no package here has it") from None
    return function


def _run(function: Callable[[Any], None], stop: Any, config_files: list[str]) -> None:
    start.die_with_parent()
    log.register_options(cfg.CONF)
    cfg.CONF([], project="octavia", default_config_files=config_files)
    log.setup(cfg.CONF, "octavia-driver-agent")
    function(stop)


def _keep(name: str, process: Callable[[], Any], stop: Any, patience: float) -> None:
    while not stop.is_set():
        child = process()
        child.start()
        while child.is_alive() and not stop.is_set():
            child.join(POLL_SECONDS)
        child.join(patience if stop.is_set() else 0)
        if child.is_alive():
            child.kill()
            child.join()
        elif not stop.wait(AGAIN_SECONDS):
            LOG.warning("the agent of provider %s ended with status %s; it is started again", name, child.exitcode)
