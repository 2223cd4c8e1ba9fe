# SPDX-License-Identifier: Apache-2.0
"""Secrets are told who uses them, whatever dies or refuses meanwhile, and no load balancer waits for that."""

from contextlib import suppress
from itertools import count

import pytest
from mortal import Death, Fuse, Mortal, MortalStore
from sqlalchemy import delete, insert, select, update

from statera.commands.consumers import AT_ONCE, Listings
from statera.errors import GiveUp, TryAgain
from statera.store.tables import events, load_balancers, sealed_secrets, secret_consumers


class Register:
    """Who is listed where."""

    def __init__(self):
        self.listed, self.refusal = set(), None

    def enlist(self, ref, load_balancer_id):
        if self.refusal:
            raise self.refusal
        self.listed.add((load_balancer_id, ref))

    def dismiss(self, ref, load_balancer_id):
        if self.refusal:
            raise self.refusal
        self.listed.discard((load_balancer_id, ref))


@pytest.fixture
def uses(store, load_balancer):
    def use(*refs):
        lb = load_balancer(version=3, wanted_version=3, done_version=3)
        with store.write() as connection:
            connection.execute(insert(sealed_secrets), [
                {"load_balancer_id": lb, "ref": ref, "digest": "d", "sealed": "s"} for ref in refs])
        return lb

    return use


def change(store, *statements):
    with store.write() as connection:
        for statement in statements:
            connection.execute(statement)


def told(store):
    with store.read() as connection:
        return connection.execute(select(events.c.reason, events.c.message)).all()


def rows(store):
    with store.read() as connection:
        return connection.execute(select(secret_consumers)).all()


def test_who_uses_what_is_listed_and_struck_out_when_that_is_over(store, uses):
    register = Register()
    one, two = uses("site", "ca"), uses("site")
    listings = Listings(store, register)
    for _ in range(2):
        listings.look()
    assert register.listed == {(one, "site"), (one, "ca"), (two, "site")}
    change(store, delete(sealed_secrets).where(sealed_secrets.c.ref == "ca"),
           delete(sealed_secrets).where(sealed_secrets.c.load_balancer_id == two))
    listings.look()
    assert register.listed == {(one, "site")}
    assert len(rows(store)) == 1


def test_one_that_is_going_is_listed_nowhere_anew(store, uses):
    register, _ = Register(), uses("site")
    change(store, update(load_balancers).values(deleting=True))
    Listings(store, register).look()
    assert (register.listed, rows(store)) == (set(), [])


def test_a_refusal_is_told_once_with_what_to_do_and_tried_again(store, uses):
    register, lb = Register(), uses("http://b/v1/secrets/s1")
    listings = Listings(store, register)
    register.refusal = GiveUp("secret_closed", "its owner has to let the service user read it")
    for _ in range(3):
        listings.look()
    [(reason, message)] = told(store)
    assert reason == "secret_unlisted"
    assert message.endswith("its renewal would not be seen: its owner has to let the service user read it")
    register.refusal = None
    listings.look()
    assert register.listed == {(lb, "http://b/v1/secrets/s1")}


def test_a_store_that_is_away_is_no_event_and_nothing_is_forgotten(store, uses):
    register, lb = Register(), uses("site")
    listings = Listings(store, register)
    listings.look()
    change(store, delete(sealed_secrets))
    register.refusal = TryAgain("cloud_silent", "Barbican does not answer")
    other = uses("site")
    listings.look()
    assert (register.listed, told(store)) == ({(lb, "site")}, [])
    register.refusal = None
    listings.look()
    assert register.listed == {(other, "site")}


def test_those_that_are_refused_keep_no_others_from_their_turn(store, uses):
    register = Register()
    closed = uses(*(f"ref-{number:03}" for number in range(AT_ONCE)))
    register.enlist, enlist = lambda ref, lb: refuse() if lb == closed else enlist(ref, lb), register.enlist
    lb = uses("site")
    listings = Listings(store, register)
    for _ in range(3):
        listings.look()
    assert register.listed == {(lb, "site")}


def refuse():
    raise GiveUp("secret_closed", "not for us")


def test_whenever_it_dies_nothing_stays_listed_that_is_not_used(store, uses):
    for dies_at in count(1):
        register, fuse, lb = Register(), Fuse(dies_at), uses("site", "ca")
        mortal = Listings(MortalStore(store, fuse), Mortal(register, fuse))
        with suppress(Death):
            mortal.look()
            change(store, delete(sealed_secrets).where(sealed_secrets.c.ref == "site"))
            mortal.look()
        change(store, delete(sealed_secrets).where(sealed_secrets.c.ref == "site"))
        for _ in range(2):
            Listings(store, register).look()
        assert register.listed == {(lb, "ca")}
        change(store, delete(load_balancers))
        if fuse.left > 0:
            break
    assert dies_at > 10
