# SPDX-License-Identifier: Apache-2.0
"""Secrets and certificate containers in Barbican, read as the tenant; of a reference only the id counts.

The tenant's token also lets the service user read them later, and that user lists load balancers as their consumers.
"""

import logging
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from statera.drivers.cloud import Json, Service
from statera.drivers.protocols import Caller
from statera.errors import DriverError, GiveUp

LOG = logging.getLogger(__name__)

REFERENCE = re.compile(r".*/(secrets|containers)/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?")
ACCEPTED = ("application/octet-stream", "text/plain")
"""How a payload can be had; Barbican knows it as what the tenant stored, PKCS12 or PEM."""

VERSION = {"OpenStack-API-Version": "key-manager 1.1"}
"""The oldest in which secrets have consumers; containers always had."""


class BarbicanSecrets:
    """The `barbican` secret store. Without a caller's token the service user asks, and needs the secret's ACL."""

    def __init__(self, barbican: Service) -> None:
        self.barbican = barbican

    def fetch(self, ref: str, caller: Caller) -> bytes | None:
        match = REFERENCE.fullmatch(ref)
        if match is None:
            return None
        try:
            read = self._container if match[1] == "containers" else self._secret
            found = read(match[2].lower(), caller)
        except DriverError:
            return None
        if found is not None and caller.token:
            self._admit(f"/{match[1]}/{match[2].lower()}", caller.token)
        return found

    def enlist(self, ref: str, load_balancer_id: str) -> None:
        """Raise `GiveUp` with what its owner has to do when the service user may not read it."""
        path, body = _listing(ref, load_balancer_id)
        found = self.barbican.reply("POST", path, json=body, headers=VERSION)
        if found.status == 403:
            raise GiveUp("secret_closed", f"its owner has to let the service user read it: `openstack acl user add "
                                          f"--user {self.barbican.user_id} {ref}`")
        if found.is_refusal:
            self.barbican.refused(found, f"POST {path}")

    def dismiss(self, ref: str, load_balancer_id: str) -> None:
        path, body = _listing(ref, load_balancer_id)
        found = self.barbican.reply("DELETE", path, json=body, headers=VERSION)
        if found.is_refusal and found.status != 404:
            self.barbican.refused(found, f"DELETE {path}")

    def _admit(self, path: str, token: str) -> None:
        """Let the service user read it when the owner's *token* is worth nothing any more, if the owner may do so."""
        try:
            known = self.barbican.find(f"{path}/acl", token=token) or {}
            users = known.get("read", {}).get("users", [])
            if self.barbican.user_id not in users:
                asked = {"read": {"users": [*users, self.barbican.user_id]}}
                self.barbican.ask("PATCH", f"{path}/acl", json=asked, token=token)
        except DriverError as error:
            LOG.info("the service user was not let read %s, so its renewal will not be seen: %s", path, error)

    def _secret(self, id: str, caller: Caller) -> bytes | None:
        for kind in ACCEPTED:
            found = self.barbican.content(f"/secrets/{id}/payload", accept=kind, token=caller.token)
            if found is not None:
                return found
        return None

    def _container(self, id: str, caller: Caller) -> bytes | None:
        """A certificate container as one PEM: certificate, intermediates, and the key without its passphrase."""
        found = self.barbican.find(f"/containers/{id}", token=caller.token)
        if found is None:
            return None
        parts = {one["name"]: self.fetch(one["secret_ref"], caller) for one in found["secret_refs"]}
        if parts.get("certificate") is None:
            return None
        return b"\n".join(part for part in (parts["certificate"], parts.get("intermediates"), _key(parts)) if part)


def _listing(ref: str, load_balancer_id: str) -> tuple[str, Json]:
    """Where the consumers of a reference are, and how one of them is told from others. Raise `GiveUp`."""
    match = REFERENCE.fullmatch(ref)
    if match is None:
        raise GiveUp("not_found", f"{ref} is no reference of Barbican's")
    names = ({"name": "octavia", "URL": f"/v2.0/lbaas/loadbalancers/{load_balancer_id}"}
             if match[1] == "containers" else
             {"service": "octavia", "resource_type": "loadbalancer", "resource_id": load_balancer_id})
    return f"/{match[1]}/{match[2].lower()}/consumers", names


def _key(parts: Mapping[str, bytes | None]) -> bytes | None:
    """The private key; one that its passphrase does not open is left as it is, for whoever reads it to say so."""
    key, passphrase = parts.get("private_key"), parts.get("private_key_passphrase")
    if not key or not passphrase:
        return key
    try:
        opened = load_pem_private_key(key, passphrase)
    except (ValueError, TypeError):
        return key
    return opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
