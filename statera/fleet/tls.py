# SPDX-License-Identifier: Apache-2.0
"""Decides which certificates an amphora gets; their files are named by role, so that a renewal keeps the name."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from statera.model import pem
from statera.model.tree import Listener, Pool
from statera.wire import PemFile, TlsSpec

Kind = Literal["certificate", "authority", "revocations"]

LABELS: Mapping[Kind, tuple[str, ...]] = {
    "certificate": ("CERTIFICATE", "KEY"),
    "authority": ("CERTIFICATE",),
    "revocations": ("X509 CRL",),
}
"""Which blocks of a secret are of use for what."""


class Use(NamedTuple):
    """A file, and the secret whose content it gets."""

    name: str
    kind: Kind
    ref: str


def listener_tls(listener: Listener) -> TlsSpec | None:
    uses = [*listener_uses(listener)]
    if listener.protocol != "TERMINATED_HTTPS" and not uses:
        return None
    return TlsSpec(
        certificates=tuple(use.name for use in uses if use.kind == "certificate"),
        authority=_name(uses, "authority"),
        revocations=_name(uses, "revocations"),
        client_authentication=listener.client_authentication,
        tls_versions=listener.tls_versions or (),
        tls_ciphers=listener.tls_ciphers,
        alpn_protocols=listener.alpn_protocols or (),
    )


def pool_tls(pool: Pool) -> TlsSpec | None:
    if not pool.tls_enabled:
        return None
    uses = [*pool_uses(pool)]
    return TlsSpec(
        certificates=tuple(use.name for use in uses if use.kind == "certificate"),
        authority=_name(uses, "authority"),
        revocations=_name(uses, "revocations"),
        tls_versions=pool.tls_versions or (),
        tls_ciphers=pool.tls_ciphers,
        alpn_protocols=pool.alpn_protocols or (),
    )


def pem_files(listeners: Iterable[Listener], pools: Iterable[Pool], secrets: Mapping[str, str]) -> Iterator[PemFile]:
    """A file for each use whose secret is there, as PEM by reference; the renderer refuses what lacks one."""
    for name, kind, ref in all_uses(listeners, pools):
        if text := pem.only(secrets.get(ref, ""), *LABELS[kind]):
            yield PemFile(name=name, kind=kind, digest=pem.digest(text), pem=text)


def all_uses(listeners: Iterable[Listener], pools: Iterable[Pool]) -> Iterator[Use]:
    for listener in listeners:
        yield from listener_uses(listener) if listener_tls(listener) else ()
    for pool in pools:
        yield from pool_uses(pool) if pool_tls(pool) else ()


def listener_uses(listener: Listener) -> Iterator[Use]:
    """The certificate of clients that name no host comes first: where none is named for them, the first other one."""
    default = listener.default_tls_container_ref
    for number, ref in enumerate(dict.fromkeys(filter(None, (default, *listener.sni_container_refs)))):
        role = "default" if number == 0 else hashlib.sha256(ref.encode()).hexdigest()[:16]
        yield Use(f"{listener.id}.{role}.pem", "certificate", ref)
    if listener.client_authentication != "NONE":
        yield from _checks(listener.id, listener.client_ca_tls_container_ref, listener.client_crl_container_ref)


def pool_uses(pool: Pool) -> Iterator[Use]:
    if pool.tls_container_ref:
        yield Use(f"{pool.id}.default.pem", "certificate", pool.tls_container_ref)
    yield from _checks(pool.id, pool.ca_tls_container_ref, pool.crl_container_ref)


def _checks(owner: str, authority: str | None, revocations: str | None) -> Iterator[Use]:
    if authority:
        yield Use(f"{owner}.authority.pem", "authority", authority)
    if revocations:
        yield Use(f"{owner}.revocations.pem", "revocations", revocations)


def _name(uses: Iterable[Use], kind: Kind) -> str | None:
    return next((use.name for use in uses if use.kind == kind), None)
