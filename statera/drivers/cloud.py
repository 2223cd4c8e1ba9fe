# SPDX-License-Identifier: Apache-2.0
"""An OpenStack cloud as its service user sees it: one session, one door to each service, its refusals as our errors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import openstack
from keystoneauth1 import loading
from keystoneauth1.exceptions import (
    AuthorizationFailure,
    ClientException,
    HttpError,
    RetriableConnectionFailure,
    SSLError,
    Unauthorized,
)
from keystoneauth1.session import Session
from msgspec import Struct, structs

from statera.config import Endpoint, ServiceAuth
from statera.errors import GiveUp, SetupError, TryAgain

Json = dict[str, Any]

OVERLOADED = (408, 429)
"""Below 500, but to be asked again all the same."""


class Reply(Struct, frozen=True):
    """What a service answered; *kind* and *words* tell of a refusal as the service named and explained it."""

    status: int
    body: Json
    kind: str = ""
    words: str = ""

    @property
    def is_refusal(self) -> bool:
        return self.status >= 400


class Service:
    """One service of the cloud; *title* is what error messages call it."""

    def __init__(self, adapter: Any, title: str) -> None:
        self._adapter = adapter
        self.title = title

    @property
    def project_id(self) -> str:
        """The service project; raise `GiveUp` or `TryAgain` when Keystone cannot be asked."""
        with _asking(self.title):
            return str(self._adapter.get_project_id())

    @property
    def user_id(self) -> str:
        """The service user; raise `GiveUp` or `TryAgain` when Keystone cannot be asked."""
        with _asking(self.title):
            return str(self._adapter.get_user_id())

    def reply(
        self, method: str, path: str, *, json: Json | None = None, query: Sequence[tuple[str, str]] = (),
        token: str | None = None, headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask, as the owner of *token* or else as the service user.

        Raise `TryAgain` when there is no answer or one that may pass by itself, `GiveUp` when we may not ask.
        """
        own = {} if token is None else {"X-Auth-Token": token}
        with _asking(self.title):
            response = self._adapter.request(
                path, method, json=json, params=list(query), headers={**(headers or {}), **own}, raise_exc=False,
                authenticated=None if token is None else False)
        found = Reply(response.status_code, *_read(response))
        if found.status >= 500 or found.status in OVERLOADED:
            raise TryAgain("cloud_failed", f"{self.title} failed with {found.status}: {found.words}")
        return found

    def ask(self, method: str, path: str, **asked: Any) -> Json:
        """The body of the answer. Raise `TryAgain` or `GiveUp`, also for a refusal."""
        found = self.reply(method, path, **asked)
        return self.refused(found, f"{method} {path}") if found.is_refusal else found.body

    def find(self, path: str, **asked: Any) -> Json | None:
        """The body, None when there is no such thing or the asker may not see it."""
        found = self.reply("GET", path, **asked)
        if found.status in (403, 404) or (asked.get("token") and found.status == 400):
            return None
        return self.refused(found, f"GET {path}") if found.is_refusal else found.body

    def content(self, path: str, *, accept: str, token: str | None) -> bytes | None:
        """What is there, as it is; None when it cannot be had in that kind, or the asker may not have it."""
        own = {} if token is None else {"X-Auth-Token": token}
        with _asking(self.title):
            response = self._adapter.request(
                path, "GET", headers={"Accept": accept, **own}, raise_exc=False,
                authenticated=None if token is None else False)
        if response.status_code >= 500:
            raise TryAgain("cloud_failed", f"{self.title} failed with {response.status_code}: {_plain(response.text)}")
        return bytes(response.content) if response.status_code < 300 else None

    def remove(self, path: str) -> None:
        """Delete; what is gone already is success."""
        found = self.reply("DELETE", path)
        if found.is_refusal and found.status != 404:
            self.refused(found, f"DELETE {path}")

    def refused(self, reply: Reply, asked: str) -> NoReturn:
        """Raise what the refusal means; *asked* is told where the service gives no words of its own."""
        reason = _reason(reply)
        message = f"{self.title} refuses: {reply.words or f'{asked} ({reply.status})'}"
        raise (TryAgain if reason in PASSING else GiveUp)(reason, message)


REASONS = {
    "OverQuota": "quota_met", "IpAddressGenerationFailure": "no_address", "ExternalIpAddressExhausted": "no_address",
    "IpAddressAlreadyAllocated": "address_taken", "RevisionNumberConstraintFailed": "changed_meanwhile",
    "NetworkNotFound": "network_gone", "SubnetNotFound": "network_gone", "PortNotFound": "port_gone",
    "PortInUse": "port_in_use", "SecurityGroupNotFound": "group_gone", "SecurityGroupInUse": "group_in_use",
    "QosPolicyNotFound": "policy_gone",
}
"""What a service calls its refusal → the event's reason."""

STATUSES = {401: "cloud_refuses", 403: "cloud_refuses", 404: "not_found", 409: "cloud_busy", 412: "changed_meanwhile"}
PASSING = frozenset({"no_address", "address_taken", "changed_meanwhile", "group_in_use", "cloud_busy"})
"""Reasons that are over sooner or later without anybody's doing."""


def _reason(reply: Reply) -> str:
    if "uota" in reply.words and reply.status in (403, 409, 413):
        return "quota_met"
    return REASONS.get(reply.kind) or STATUSES.get(reply.status, "cloud_refused")


def _read(response: Any) -> tuple[Json, str, str]:
    """The body, and of a refusal its name and words: each service wraps them in an object of another name."""
    try:
        body = response.json() if response.content else {}
    except ValueError:
        return {}, "", _plain(response.text)
    if not isinstance(body, dict):
        return {}, "", _plain(str(body))
    if response.status_code < 400:
        return body, "", ""
    inner = next((value for value in body.values() if isinstance(value, dict)), body)
    return body, str(inner.get("type", "")), str(inner.get("message") or inner.get("description") or "")


def _plain(text: str) -> str:
    """What is left of a page of HTML, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:500]


@contextmanager
def _asking(title: str) -> Iterator[None]:
    """What keystoneauth raises, as our errors."""
    try:
        yield
    except RetriableConnectionFailure as error:
        raise TryAgain("cloud_silent", f"{title} does not answer: {error}") from error
    except (Unauthorized, AuthorizationFailure, SSLError) as error:
        raise GiveUp("cloud_refuses", f"the service user of [service_auth] is not let in: {error}") from error
    except HttpError as error:
        raise TryAgain("cloud_failed", f"Keystone failed: {error}") from error
    except ClientException as error:
        raise GiveUp("cloud_missing", f"{title} cannot be found: {error}") from error


class Cloud:
    """The services, found in the service catalogue when they are first asked."""

    def __init__(self, auth: ServiceAuth) -> None:
        """Raise `SetupError` when *auth* cannot be meant."""
        given = structs.asdict(auth)
        session = {name: given.pop(name) for name in ("cafile", "insecure", "timeout")}
        kind = given.pop("auth_type")
        if not auth.auth_url:
            raise SetupError("[service_auth] auth_url is needed to speak with OpenStack")
        loader: Any = loading.get_plugin_loader(kind)
        known = {option.dest for option in loader.get_options()}
        plugin = loader.load_from_options(**{name: value for name, value in given.items() if value and name in known})
        verify = False if session["insecure"] else session["cafile"] or True
        self.session = Session(auth=plugin, timeout=session["timeout"], verify=verify)

    def service(self, name: str, title: str, endpoint: Endpoint) -> Service:
        """The service that openstacksdk knows as *name* (`network`, `compute`, `image`)."""
        override = {f"{name}_endpoint_override": endpoint.endpoint_override} if endpoint.endpoint_override else {}
        more: dict[str, Any] = dict(override)
        connection = openstack.connection.Connection(
            session=self.session, region_name=endpoint.region_name or None,
            interface=endpoint.endpoint_type.removesuffix("URL"), **more)
        return Service(getattr(connection, name), title)
