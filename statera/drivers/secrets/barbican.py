# SPDX-License-Identifier: Apache-2.0
"""Secrets and certificate containers in Barbican, read as the tenant; of a reference only the id counts."""

import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from statera.drivers.cloud import Service
from statera.drivers.protocols import Caller
from statera.errors import DriverError

REFERENCE = re.compile(r".*/(secrets|containers)/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?")
ACCEPTED = ("application/octet-stream", "text/plain")
"""How a payload can be had; Barbican knows it as what the tenant stored, PKCS12 or PEM."""


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
            return read(match[2].lower(), caller)
        except DriverError:
            return None

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
