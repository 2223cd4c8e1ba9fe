# SPDX-License-Identifier: Apache-2.0
"""Processes that die at a chosen point: everything that touches the outside burns a fuse before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from statera.store.engine import Store


class Death(BaseException):
    """Not an error that anybody handles: the process is gone."""


class Fuse:
    """Burns at every call and commit, and kills at number *at* (0: never)."""

    def __init__(self, at: int) -> None:
        self.left = at

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Death


class MortalStore:
    """The same database; may die before a transaction, before its commit and after it."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._fuse.burn()
        with self._store.write() as connection:
            yield connection
            self._fuse.burn()
        self._fuse.burn()


class Mortal:
    """A driver whose every call may be the last, just before or just after it took effect."""

    def __init__(self, driver: Any, fuse: Fuse) -> None:
        self._driver, self._fuse = driver, fuse

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._driver, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            self._fuse.burn()
            result = attribute(*args, **options)
            self._fuse.burn()
            return result

        return call
