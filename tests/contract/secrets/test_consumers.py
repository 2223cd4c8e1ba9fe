# SPDX-License-Identifier: Apache-2.0
"""Barbican shows who uses what: one in memory, which answers as Barbican 23 does, and a real one."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import openstack_cloud as world
import pytest
from msgspec import Struct

from statera.drivers.cloud import Reply, Service
from statera.drivers.protocols import Caller
from statera.drivers.secrets.barbican import BarbicanSecrets
from statera.errors import GiveUp

pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in world.WARNINGS]
LB, OWNER, US = str(uuid4()), "the owner's token", "the-service-user"
PATH = re.compile(r"/(secrets|containers)/([0-9a-f-]{36})(?:/(\w+))?")
DENIED = Reply(403, {}, "", "SecretConsumer creation attempt not allowed - please review your user/project privileges")
MISSING = Reply(404, {}, "", "Not Found. Sorry but your secret is in another castle.")


class Memory(Service):
    """Secrets and containers with their access lists and consumers."""

    user_id = US

    def __init__(self) -> None:
        super().__init__(None, "Barbican")
        self.kept: dict[str, Any] = {}
        self.owner_may_share = True

    def keep(self, kind: str, *parts: str) -> str:
        id = str(uuid4())
        refs = [{"name": "certificate", "secret_ref": ref} for ref in parts]
        self.kept[id] = {"readers": [], "consumers": [], "secret_refs": refs}
        return f"http://barbican.example.org/v1/{kind}/{id}"

    def reply(self, method: str, path: str, *, json: Any = None, token: Any = None, **_: Any) -> Reply:
        match = PATH.fullmatch(path)
        thing = self.kept.get(match[2]) if match else None
        if match is None or thing is None:
            return MISSING
        if token is None and US not in thing["readers"]:
            return DENIED
        if match[3] == "acl":
            return self._acl(thing, method, json)
        return self._consumers(thing["consumers"], method, json) if match[3] else Reply(200, thing)

    def content(self, path: str, *, accept: str, token: str | None) -> bytes | None:
        thing = self.kept[path.split("/")[2]]
        return b"a certificate" if token or US in thing["readers"] else None

    def _acl(self, thing: Any, method: str, json: Any) -> Reply:
        if method == "PATCH" and not self.owner_may_share:
            return DENIED
        if method == "PATCH":
            thing["readers"] = json["read"]["users"]
        return Reply(200, {"read": {"project-access": True, "users": thing["readers"]}})

    def _consumers(self, consumers: list[Any], method: str, json: Any) -> Reply:
        if method == "DELETE" and json not in consumers:
            return Reply(404, {}, "", "Consumer not found.")
        if method == "DELETE":
            consumers.remove(json)
        elif json not in consumers:
            consumers.append(json)
        return Reply(200, {})


class Safe(Struct, frozen=True):
    """A Barbican where an owner keeps things."""

    driver: BarbicanSecrets
    owner: Caller
    keep: Callable[..., str]
    consumers: Callable[[str], list[Any]]
    remove: Callable[[str], Any]


def _id(ref: str) -> str:
    return ref.rsplit("/", 1)[1]


@pytest.fixture
def memory() -> Safe:
    town = Memory()
    return Safe(BarbicanSecrets(town), Caller(project_id="p", token=OWNER), town.keep,
                lambda ref: town.kept[_id(ref)]["consumers"], lambda ref: town.kept.pop(_id(ref)))


@pytest.fixture(scope="module")
def real() -> Iterator[Safe]:
    with world.cloud_or_skip() as admin, world.tenants(admin, 1) as (tenant,):
        service, made = tenant.connection.key_manager, []

        def keep(kind: str, *parts: str) -> str:
            body = {"type": "certificate", "secret_refs": [{"name": "certificate", "secret_ref": ref} for ref in parts]}
            if kind == "secrets":
                body = {"payload": "a certificate", "payload_content_type": "text/plain"}
            found = service.post(f"/{kind}", json=body).json()
            made.append(found.get("secret_ref") or found["container_ref"])
            return str(made[-1])

        def remove(ref: str) -> Any:
            return service.delete("/".join(["", *ref.rsplit("/", 2)[1:]]))

        def consumers(ref: str) -> list[Any]:
            path = "/".join(["", *ref.rsplit("/", 2)[1:], "consumers"])
            headers = {"OpenStack-API-Version": "key-manager 1.1"}
            return list(service.get(path, headers=headers).json()["consumers"])

        yield Safe(BarbicanSecrets(world.service(admin, "key_manager", "Barbican")), tenant.caller, keep, consumers,
                   remove)
        for ref in reversed(made):
            remove(ref)


@pytest.fixture(params=["memory", "real"])
def safe(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["secrets", "containers"])
def ref(request: pytest.FixtureRequest, safe: Safe) -> str:
    """Something that its owner has named to us once."""
    inner = safe.keep("secrets")
    ref = safe.keep("containers", inner) if request.param == "containers" else inner
    assert safe.driver.fetch(ref, safe.owner)
    return ref


def test_a_load_balancer_is_listed_once_and_then_no_more(safe: Safe, ref: str) -> None:
    for _ in range(2):
        safe.driver.enlist(ref, LB)
    [listed] = safe.consumers(ref)
    assert LB in str(listed)
    assert "octavia" in (listed.get("service"), listed.get("name"))
    safe.driver.enlist(ref, str(uuid4()))
    for _ in range(2):
        safe.driver.dismiss(ref, LB)
    assert LB not in str(safe.consumers(ref))
    assert len(safe.consumers(ref)) == 1


def test_who_names_it_lets_us_read_it_from_then_on(safe: Safe, ref: str) -> None:
    assert (safe.driver.fetch(ref, Caller()) or b"").strip() == b"a certificate"


def test_what_nobody_let_us_read_says_how_that_is_done(safe: Safe) -> None:
    ref = safe.keep("secrets")
    with pytest.raises(GiveUp, match=rf"`openstack acl user add --user \S+ {ref}`") as refused:
        safe.driver.enlist(ref, LB)
    assert refused.value.reason == "secret_closed"
    assert safe.consumers(ref) == []


def test_what_is_gone_has_no_users(safe: Safe) -> None:
    ref = f"http://barbican.example.org/v1/secrets/{uuid4()}"
    safe.driver.dismiss(ref, LB)
    with pytest.raises(GiveUp):
        safe.driver.enlist(ref, LB)


def test_an_owner_who_may_not_share_has_a_certificate_all_the_same(memory: Safe) -> None:
    ref, town = memory.keep("secrets"), memory.driver.barbican
    assert isinstance(town, Memory)
    town.owner_may_share = False
    assert memory.driver.fetch(ref, memory.owner) == b"a certificate"
    assert memory.driver.fetch(ref, Caller()) is None


def test_those_who_were_let_in_by_the_owner_stay(memory: Safe) -> None:
    ref, town = memory.keep("secrets"), memory.driver.barbican
    assert isinstance(town, Memory)
    town.kept[_id(ref)]["readers"] = ["a-colleague"]
    for _ in range(2):
        memory.driver.fetch(ref, memory.owner)
    assert town.kept[_id(ref)]["readers"] == ["a-colleague", US]
