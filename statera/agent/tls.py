# SPDX-License-Identifier: Apache-2.0
"""Which runtime commands bring the certificates of a running HAProxy to what they should be."""

from collections.abc import Iterator

from msgspec.structs import replace

from statera.render import tls
from statera.wire import ListenerSpec, PemFile, Spec

MOST_BYTES = 14_000
"""A longer command would not fit into HAProxy's buffer of 16 kB, which drops it without a word (HAProxy 2.6)."""


def bare(spec: Spec) -> Spec:
    """Without private keys, for those who only compare."""
    return replace(spec, pem_files=tuple(replace(file, pem="") for file in spec.pem_files))


def overlay(loaded: Spec, new: Spec) -> tuple[PemFile, ...]:
    """The files of *new* and those that only *loaded* has."""
    return tuple({file.name: file for file in (*loaded.pem_files, *new.pem_files)}.values())


def is_live(old: Spec, new: Spec) -> bool:
    """Whether commands can do it: no pool needs files that HAProxy has not read, and what comes are certificates
    that fit into a command.

    HAProxy takes other authorities and revocation lists too. But then a client or a member who is trusted no more
    goes on with the session or the connection that it has, until the new worker of a reload knows nothing of it.
    """
    needed = {name for pool in new.pools if pool.tls and pool.members for name in tls.names(pool.tls)}
    return needed <= set(loaded(old)) and all(
        file.kind == "certificate" and len(file.pem) <= MOST_BYTES for file in coming(old, new))


def commands(old: Spec, new: Spec, folder: str) -> Iterator[str]:
    """From *old* to *new*, whose files lie in *folder*: changed contents, then new names, then those that go."""
    for file in changed(old, new):
        yield from contents(file, folder)
    files = {file.name: file for file in new.pem_files}
    for listener, added, gone in names(old, new):
        place = f"{folder}/{tls.list_file(listener)}"
        for name in added:
            yield f"new ssl cert {folder}/{name}"
            yield from contents(files[name], folder)
            yield f"add ssl crt-list {place} {folder}/{name}"
        for name in gone:
            yield f"del ssl crt-list {place} {folder}/{name}"
            yield f"del ssl cert {folder}/{name}"


def contents(file: PemFile, folder: str) -> Iterator[str]:
    yield f"set ssl cert {folder}/{file.name} <<\n{file.pem}"
    yield f"commit ssl cert {folder}/{file.name}"


def changed(old: Spec, new: Spec) -> list[PemFile]:
    """Files that HAProxy has read and whose content is another now."""
    before, read = {file.name: file.digest for file in old.pem_files}, set(loaded(old))
    return [file for file in new.pem_files if file.name in read and before.get(file.name) != file.digest]


def coming(old: Spec, new: Spec) -> list[PemFile]:
    """Files whose content has to be told."""
    added = {name for _, names_added, _ in names(old, new) for name in names_added}
    return [*changed(old, new), *(file for file in new.pem_files if file.name in added)]


def names(old: Spec, new: Spec) -> Iterator[tuple[ListenerSpec, list[str], list[str]]]:
    """For each listener with TLS in both: the certificates that are new, and those that go."""
    before = {listener.id: listener.tls for listener in old.listeners}
    for listener in new.listeners:
        former, now = before.get(listener.id), listener.tls
        if former and now:
            yield (listener, [name for name in now.certificates if name not in former.certificates],
                   [name for name in former.certificates if name not in now.certificates])


def loaded(spec: Spec) -> Iterator[str]:
    """The files that HAProxy reads when it loads *spec*; those of a pool only for a member."""
    speaking = [each.tls for each in spec.listeners] + [pool.tls for pool in spec.pools if pool.members]
    for each in filter(None, speaking):
        yield from tls.names(each)
