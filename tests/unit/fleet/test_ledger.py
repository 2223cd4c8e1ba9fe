# SPDX-License-Identifier: Apache-2.0
"""Facts reach the database in order, together, and after it was away; a bad one harms no other."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from statera.fleet.ledger import Ledger


class Book:
    """A store that remembers what each transaction wrote."""

    def __init__(self):
        self.pages = []
        self.away = False

    @contextmanager
    def write(self):
        if self.away:
            raise OperationalError("BEGIN", {}, Exception("away"))
        page = []
        yield page
        self.pages.append(page)


def fact(word):
    return lambda page: page.append(word)


def bad(_page):
    raise IntegrityError("INSERT", {}, Exception("bad"))


@pytest.fixture
def book():
    return Book()


@pytest.fixture
def ledger(book):
    with ThreadPoolExecutor(1) as threads:
        yield Ledger(book, threads)


def flush(ledger):
    return asyncio.run(ledger.flush())


def test_what_waits_is_written_together_by_load_balancer(book, ledger):
    for key, word in (("b", "x"), "1"), (("a", "x"), "2"), (("b", "y"), "3"):
        ledger.note(key, fact(word))
    assert flush(ledger)
    assert book.pages == [["2", "1", "3"]]


def test_the_newer_of_two_about_the_same_thing_counts(book, ledger):
    ledger.note(("a", "x"), fact("old"))
    ledger.note(("a", "y"), fact("other"))
    ledger.note(("a", "x"), fact("new"))
    flush(ledger)
    assert book.pages == [["other", "new"]]


def test_nothing_is_lost_while_the_database_is_away(book, ledger):
    ledger.note(("a", "x"), fact("1"))
    ledger.note(("b", "x"), fact("2"))
    book.away = True
    assert not flush(ledger)
    ledger.note(("a", "x"), fact("newer"))
    book.away = False
    assert flush(ledger)
    assert sorted(word for page in book.pages for word in page) == ["2", "newer"]


def test_a_fact_that_cannot_be_written_is_dropped_alone(book, ledger, caplog):
    for key, item in (("a",), fact("1")), (("b",), bad), (("c",), fact("3")):
        ledger.note(key, item)
    assert flush(ledger)
    assert [word for page in book.pages for word in page] == ["1", "3"]
    assert "is dropped" in caplog.text


def test_it_writes_on_its_own_while_it_runs(book, ledger):
    async def story():
        running = asyncio.create_task(ledger.run())
        ledger.note(("a",), fact("1"))
        async with asyncio.timeout(5):
            while not book.pages:
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    assert book.pages == [["1"]]
