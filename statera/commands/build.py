# SPDX-License-Identifier: Apache-2.0
"""The only place that names real drivers: from the options' words to objects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec import structs

from statera.config import Settings
from statera.controller.explain import explain
from statera.controller.observe import observe
from statera.controller.plan import plan
from statera.controller.world import World
from statera.drivers.cloud import Cloud
from statera.drivers.compute.hosts import Hosts
from statera.drivers.compute.noop import NoopCompute
from statera.drivers.compute.nova import Invitation, NovaServers
from statera.drivers.network.local import LocalNetworks
from statera.drivers.network.neutron import NeutronNetworks
from statera.drivers.network.noop import NoopNetwork
from statera.drivers.protocols import Compute, Consumers, Network, Secrets
from statera.drivers.secrets.barbican import BarbicanSecrets
from statera.drivers.secrets.local import LocalSecrets
from statera.drivers.secrets.noop import NoopSecrets
from statera.errors import SetupError
from statera.fleet.authority import Authority
from statera.store import authorities, nodes
from statera.store.circumstances import circumstances
from statera.store.engine import Store
from statera.store.migrations import require_schema
from statera.store.networks import NetworkBook
from statera.store.secrets import Sealer, SecretBook, ensure_sealer

Driver = TypeVar("Driver")

COMPUTE: Mapping[str, Callable[[Settings, Store], Compute]] = {
    "hosts": lambda _settings, _store: Hosts(),
    "nova": lambda settings, store: nova(settings, store),
    "noop": lambda _settings, _store: NoopCompute(),
}
NETWORK: Mapping[str, Callable[[Settings, Store], Network]] = {
    "local": lambda _settings, store: LocalNetworks(NetworkBook(store)),
    "neutron": lambda settings, _store: neutron(settings),
    "noop": lambda _settings, _store: NoopNetwork(),
}
SECRETS: Mapping[str, Callable[[Settings, Store], Secrets | None]] = {
    "none": lambda _settings, _store: None,
    "noop": lambda _settings, _store: NoopSecrets(),
    "local": lambda settings, store: LocalSecrets(secret_book(settings, store)),
    "barbican": lambda settings, _store: barbican(settings),
}
UNSEALED = ("none", "noop")
"""Secret stores that hold nothing worth keeping."""


def open_store(settings: Settings) -> Store:
    """The configured database; not touched yet."""
    database = settings.database
    return Store(
        settings.database_url, pool_size=database.max_pool_size, max_overflow=database.max_overflow,
        pool_timeout=database.pool_timeout,
    )


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The configured database for as long as the block runs, whatever its schema."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def current(settings: Settings) -> Iterator[Store]:
    """The configured database for as long as the block runs. Raise `SetupError` for another release's schema."""
    with opened(settings) as store:
        require_schema(store)
        yield store


def compute(settings: Settings, store: Store) -> Compute:
    driver = _named("[controller_worker] compute_driver", settings.controller_worker.compute_driver, COMPUTE)
    return driver(settings, store)


def nova(settings: Settings, store: Store) -> Compute:
    """Raise `SetupError` for what machines cannot do without."""
    for section, option in NOVA_NEEDS:
        if not getattr(getattr(settings, section), option):
            raise SetupError(f"[{section}] {option} is needed for compute_driver nova")

    def invite(name: str) -> Invitation:
        with store.write() as connection:
            token = nodes.make_token(connection, name, settings.nova.connect_seconds)
            return Invitation(token=token, fingerprint=authorities.fingerprint(connection))

    cloud = Cloud(settings.service_auth)
    return NovaServers(
        cloud.service("compute", "Nova", settings.nova), cloud.service("image", "Glance", settings.glance),
        worker=settings.controller_worker, settings=settings.nova, cinder=settings.cinder,
        endpoints=settings.health_manager.controller_ip_port_list, invite=invite)


NOVA_NEEDS = (
    ("controller_worker", "amp_boot_network_list"), ("controller_worker", "amp_flavor_id"),
    ("health_manager", "controller_ip_port_list"),
)


def network(settings: Settings, store: Store) -> Network:
    driver = _named("[controller_worker] network_driver", settings.controller_worker.network_driver, NETWORK)
    return driver(settings, store)


def neutron(settings: Settings) -> Network:
    service = Cloud(settings.service_auth).service("network", "Neutron", settings.neutron)
    return NeutronNetworks(service, sees_all=settings.networking.allow_invisible_resource_usage)


def secrets(settings: Settings, store: Store) -> Secrets | None:
    """Where tenants keep certificates; None when there is no such place."""
    return _named("[certificates] cert_manager", settings.certificates.cert_manager, SECRETS)(settings, store)


def secret_consumers(settings: Settings) -> Consumers | None:
    """Who tells owners of secrets that these are used; None where secrets know of no users."""
    return barbican(settings) if settings.certificates.cert_manager == "barbican" else None


def barbican(settings: Settings) -> BarbicanSecrets:
    return BarbicanSecrets(Cloud(settings.service_auth).service("key_manager", "Barbican", settings.barbican))


def sealer(settings: Settings) -> Sealer | None:
    """What seals secrets in the database, with its key made on first use; None when there are no secrets."""
    return None if settings.certificates.cert_manager in UNSEALED else ensure_sealer(settings.master_key)


def authority(settings: Settings, store: Store) -> Authority:
    """Who signs for nodes and health managers; made on first use."""
    return Authority(store, ensure_sealer(settings.master_key), settings)


def secret_book(settings: Settings, store: Store) -> SecretBook:
    """What tenants uploaded to the `local` secret store."""
    return SecretBook(store, ensure_sealer(settings.master_key))


def world(settings: Settings, store: Store) -> World:
    """What controllers work with."""
    own = settings.controller_worker
    return World(
        store=store, compute=compute(settings, store), network=network(settings, store),
        replacements_per_minute=own.replacements_per_minute, provider_patience_seconds=own.provider_patience_seconds)


def forecast(settings: Settings, store: Store) -> Callable[[str], dict[str, Any]]:
    """Tells what a controller would do about a load balancer now, each step by name and sentence, and explains it."""
    seen_with = world(settings, store)

    def look(load_balancer_id: str) -> dict[str, Any]:
        desired, seen = observe(seen_with, load_balancer_id)
        with store.read() as connection:
            now = circumstances(connection, load_balancer_id)
        steps = plan(desired, seen) if desired else []
        story = explain(desired, seen, now) if desired and now else None
        return {
            "plan": [{"action": type(step).__name__, "message": str(step)} for step in steps],
            "explanation": story and structs.asdict(story),
        }

    return look


def _named(option: str, name: str, drivers: Mapping[str, Driver]) -> Driver:
    if name not in drivers:
        raise SetupError(f"{option} = {name} is not one of {', '.join(sorted(drivers))}")
    return drivers[name]
