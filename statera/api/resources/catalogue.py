# SPDX-License-Identifier: Apache-2.0
"""What an operator offers: flavors, availability zones, and their profiles."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import falcon
import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select, update

from statera.api import capabilities, requests
from statera.api.acts import Service
from statera.api.capabilities import Provider
from statera.api.fields import REFUSE, REQUIRED, Field, columns_of, text, with_defaults, with_nulls
from statera.api.handlers import answer_page, found, read_post, read_put, respond, respond_encoded, respond_nothing
from statera.api.idempotency import Once, once
from statera.api.identity import Identity, identify
from statera.api.kinds import Kind, select_fields
from statera.api.types import Bool, Text, Uuid
from statera.errors import Conflict, InvalidOption, NotFound
from statera.store import tables
from statera.store.lists import Row
from statera.store.tables import availability_zone_profiles, availability_zones, flavor_profiles, flavors

Values = Mapping[str, Any]
NIL = "00000000-0000-0000-0000-000000000000"
"""What no offer has; it is spoken of as upstream speaks of it."""


class Offer(Struct, frozen=True, kw_only=True):
    """What is special about one kind.

    *check* judges a whole object before it is written. *users* are (table, column) whose rows keep it from
    going, or from changing the fields of *frozen*. *unique* is the word for a taken name.
    """

    kind: Kind
    users: tuple[Any, str]
    in_use: str
    check: Callable[[Connection, Values, Service], None]
    frozen: tuple[str, ...] = ()
    unique: str = ""


def _name(**more: Any) -> Field:
    return Field(name="name", type=Text(255), post=REQUIRED, null=REFUSE, **more)


ENABLED = Field(name="enabled", type=Bool(), post=True, null=REFUSE)


def _profiled(name: str) -> Field:
    return Field(name=name, type=Uuid(), post=REQUIRED, put=False, null=REFUSE)


def _kind(name: str, plural: str, argument: str, **more: Any) -> Kind:
    return Kind(name=name, plural=plural, argument=argument, joined=False, owned=False, **more)


FLAVOR = _kind(
    "flavor", "flavors", "flavor_", title="Flavor", policy="flavor", table=flavors, order=("id",),
    fields=(Field(name="id"), _name(), text("description"), ENABLED, _profiled("flavor_profile_id")),
)
ZONE = _kind(
    "availability_zone", "availability_zones", "availability_zone_", title="Availability Zone",
    policy="availability-zone", table=availability_zones, order=("name",), key="name",
    fields=(_name(put=False), text("description"), ENABLED, _profiled("availability_zone_profile_id")),
)


def _profile_fields(data: str) -> tuple[Field, ...]:
    return (Field(name="id"), _name(), Field(name="provider_name", type=Text(255), post=REQUIRED, null=REFUSE),
            Field(name=data, type=Text(4096), post=REQUIRED, null=REFUSE))


FLAVOR_PROFILE = _kind(
    "flavorprofile", "flavorprofiles", "flavor_profile_", title="Flavor Profile", policy="flavor-profile",
    table=flavor_profiles, order=("id",), links="flavorprofile_links", fields=_profile_fields("flavor_data"),
)
ZONE_PROFILE = _kind(
    "availability_zone_profile", "availability_zone_profiles", "availability_zone_profile_",
    title="Availability Zone Profile", policy="availability-zone-profile", table=availability_zone_profiles,
    order=("id",), links="availability_zone_profile_links", fields=_profile_fields("availability_zone_data"),
)


def _profile_exists(kind: Kind, column: str) -> Callable[[Connection, Values, Service], None]:
    def check(connection: Connection, values: Values, _service: Service) -> None:
        found(connection, kind.table, values[column], title=kind.title)

    return check


def _good_data(
    name: str, validate: Callable[[Provider, Values], None]
) -> Callable[[Connection, Values, Service], None]:
    """The data is a JSON object that the provider, which is enabled, understands."""
    def check(_connection: Connection, values: Values, service: Service) -> None:
        try:
            data = msgspec.json.decode(values[name], type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise InvalidOption(values[name], name) from None
        names = service.settings.api_settings.enabled_provider_drivers
        validate(capabilities.enabled(values["provider_name"], names, service.drivers), data)

    return check


OFFERS = {
    "/flavors": Offer(
        kind=FLAVOR, users=(tables.load_balancers, "flavor_id"), in_use="Flavor", unique="flavor",
        check=_profile_exists(FLAVOR_PROFILE, "flavor_profile_id")),
    "/flavorprofiles": Offer(
        kind=FLAVOR_PROFILE, users=(flavors, "flavor_profile_id"), in_use="Flavor profile",
        frozen=("flavor_data", "provider_name"),
        check=_good_data("flavor_data", lambda provider, data: provider.validate_flavor(data))),
    "/availabilityzones": Offer(
        kind=ZONE, users=(tables.load_balancers, "availability_zone"), in_use="Availability Zone",
        unique="availability zone", check=_profile_exists(ZONE_PROFILE, "availability_zone_profile_id")),
    "/availabilityzoneprofiles": Offer(
        kind=ZONE_PROFILE, users=(availability_zones, "availability_zone_profile_id"),
        in_use="Availability Zone Profile", frozen=("availability_zone_data", "provider_name"),
        check=_good_data("availability_zone_data", lambda provider, data: provider.validate_zone(data))),
}


def routes(service: Service) -> list[tuple[str, object]]:
    return [route for path, offer in OFFERS.items() for route in (
        (path, Offers(service, offer)), (f"{path}/{{id}}", OneOffer(service, offer)))]


class Desk:
    """What both share: access comes before existence, judged for the caller's own project."""

    def __init__(self, service: Service, offer: Offer) -> None:
        self.service, self.offer, self.kind = service, offer, offer.kind

    def admit(self, request: falcon.Request, action: str) -> Identity:
        identity = identify(request.env)
        self.service.policy.require(identity, f"{self.kind.policy}:{action}", project_id=identity.project_id)
        return identity

    def require_free_name(self, connection: Connection, values: Values, *, but: str = "") -> None:
        """Raise when another one has the name already."""
        name, key = self.kind.table.c.name, self.kind.table.c[self.kind.key]
        taken = select(key).where(name == values["name"], key != but)
        if self.offer.unique and connection.execute(taken).first():
            raise Conflict(f"A {self.offer.unique} of {values['name']} already exists.")

    def require_unused(self, connection: Connection, id: str) -> None:
        table, column = self.offer.users
        use = select(table.c[column]).where(table.c[column] == id)
        if "deleted_at" in table.c:
            use = use.where(table.c.deleted_at.is_(None))
        if connection.execute(use.limit(1)).first():
            raise Conflict(f"{self.offer.in_use} {id} is in use and cannot be modified.")


class Offers(Desk):
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self.admit(request, "get_all")
        respond(response, answer_page(self.service, request, self.kind, query=requests.query_of(request)))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        requests.refuse_query(request)
        values = with_defaults(self.kind.fields, read_post(request, self.kind), self.service.settings)
        self.admit(request, "post")

        def create(once: Once) -> bytes:
            with self.service.writing() as connection:
                answer = msgspec.json.encode({self.kind.name: self.add(connection, values)})
                once.keep(connection, answer)
            return answer

        answer = once(self.service, request, identify(request.env), values).answer(create)
        respond_encoded(response, answer, status=201)

    def add(self, connection: Connection, values: Mapping[str, Any]) -> Row | None:
        self.offer.check(connection, values, self.service)
        self.require_free_name(connection, values)
        key = values["name"] if self.kind.key == "name" else str(uuid4())
        row = columns_of(self.kind.fields, values) | {self.kind.key: key}
        connection.execute(insert(self.kind.table).values(row))
        return self.kind.one(connection, key)


class OneOffer(Desk):
    def on_get(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        self.admit(request, "get_one")
        wanted = requests.fields_of(requests.query_of(request), self.service.settings.api_settings)
        with self.service.store.read() as connection:
            respond(response, {self.kind.name: select_fields(self.row(connection, id), wanted)})

    def on_put(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        sent = read_put(requests.body_of(request, self.kind.argument), self.kind)
        self.admit(request, "put")
        changes = with_nulls(self.kind.fields, sent, self.service.settings)
        with self.service.writing() as connection:
            after = {**self.row(connection, id), **changes}
            if changes.keys() & set(self.offer.frozen):
                self.require_unused(connection, id)
            self.offer.check(connection, after, self.service)
            self.require_free_name(connection, after, but=id)
            if changes:
                here = self.kind.table.c[self.kind.key] == id
                connection.execute(update(self.kind.table).where(here).values(columns_of(self.kind.fields, changes)))
            respond(response, {self.kind.name: self.row(connection, id)})

    def on_delete(self, request: falcon.Request, response: falcon.Response, *, id: str) -> None:
        requests.refuse_query(request)
        self.admit(request, "delete")
        with self.service.writing() as connection:
            self.row(connection, id, title=self.offer.in_use)
            self.require_unused(connection, id)
            connection.execute(delete(self.kind.table).where(self.kind.table.c[self.kind.key] == id))
        respond_nothing(response)

    def row(self, connection: Connection, id: str, *, title: str = "") -> dict[str, Any]:
        row = self.kind.one(connection, id)
        if row is None:
            raise NotFound(title or (self.offer.in_use if id == NIL else self.kind.title), id)
        return row
