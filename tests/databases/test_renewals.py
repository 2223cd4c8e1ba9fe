# SPDX-License-Identifier: Apache-2.0
"""A secret that holds something new is taken up by who uses it, and one that is of no use is told."""

from datetime import UTC, datetime

import pytest
from certificates import Authority
from cryptography.fernet import Fernet
from sqlalchemy import select, update

from statera.commands.renewals import START, Renewals
from statera.errors import TryAgain
from statera.model import pem
from statera.store import secrets
from statera.store.secrets import Sealer
from statera.store.tables import events, load_balancers, sealed_secrets

ROOT = Authority("root")
OLD, NEW = (ROOT.certificate_for("www.example.com") for _ in range(2))
LATE = ROOT.certificate_for("www.example.com", days=-1)


class Drawer:
    """A secret store; who asks is noted."""

    def __init__(self, **held):
        self.held = held
        self.asked = []

    def fetch(self, ref, caller):
        self.asked.append((ref, caller.project_id))
        if self.held.get(ref) == "away":
            raise TryAgain("SECRETS", "the secret store does not answer")
        content = self.held.get(ref)
        return content.encode() if isinstance(content, str) else content


@pytest.fixture
def sealer():
    return Sealer(Fernet.generate_key())


@pytest.fixture
def uses(store, sealer, load_balancer):
    """A load balancer that uses these secrets, and settled long ago."""
    def use(**contents):
        lb = load_balancer(version=3, wanted_version=3, done_version=3)
        with store.write() as connection:
            for ref, content in contents.items():
                material = pem.read(content.encode(), now=datetime.now(UTC))
                secrets.keep(connection, lb, ref, secrets.sealed(material, sealer))
        return lb

    return use


def version_of(store, lb):
    with store.read() as connection:
        return connection.execute(select(load_balancers.c.version).where(load_balancers.c.id == lb)).scalar_one()


def told(store, lb):
    with store.read() as connection:
        event = events.c
        found = connection.execute(select(event.reason, event.message).where(event.load_balancer_id == lb))
        return [tuple(row) for row in found.all()]


def content(store, sealer, lb, ref):
    with store.read() as connection:
        return sealer.open(secrets.of_load_balancer(connection, lb)[ref]).decode()


def test_what_is_renewed_is_rolled_out_once_and_told(store, sealer, uses):
    drawer, lb = Drawer(site=NEW.bundle, ca=ROOT.pem), uses(site=OLD.bundle, ca=ROOT.pem)
    renewals = Renewals(store, drawer, sealer)
    assert renewals.look() == START
    assert renewals.look() == START
    assert version_of(store, lb) == 4
    assert content(store, sealer, lb, "site") == NEW.bundle
    [(reason, message)] = told(store, lb)
    assert reason == "secret_renewed"
    assert message.startswith("site holds something new, which runs out on ")
    assert set(drawer.asked) == {("site", "p"), ("ca", "p")}


@pytest.mark.parametrize(("old", "new", "fault"), [
    pytest.param(OLD.bundle, LATE.bundle, "it ran out on ", id="expired"),
    pytest.param(OLD.bundle, NEW.pem, "there is no private key in it", id="no key"),
    pytest.param(OLD.bundle, NEW.pem + OLD.key_pem, "its private key belongs to another", id="another's key"),
    pytest.param(OLD.bundle, "nonsense", "it cannot be read: ", id="nonsense"),
    pytest.param(OLD.bundle, NEW.pkcs12(b"hush"), "it cannot be read: ", id="locked"),
    pytest.param(ROOT.pem, ROOT.revocations(), "there is no certificate in it", id="a CRL for a CA"),
    pytest.param(ROOT.revocations(), ROOT.pem, "there is no revocation list in it", id="a CA for a CRL"),
])
def test_what_cannot_be_used_is_told_once_and_changes_nothing(store, sealer, uses, old, new, fault):
    lb = uses(ref=old)
    renewals = Renewals(store, Drawer(ref=new), sealer)
    for _ in range(2):
        renewals.look()
    assert version_of(store, lb) == 3
    assert content(store, sealer, lb, "ref") == old
    [(reason, message)] = told(store, lb)
    assert (reason, fault in message) == ("secret_refused", True)


def test_a_store_that_is_away_or_empty_changes_nothing(store, sealer, uses):
    lb = uses(away=OLD.bundle, gone=OLD.bundle, there=OLD.bundle)
    Renewals(store, Drawer(away="away", there=NEW.bundle), sealer).look()
    assert [content(store, sealer, lb, ref) for ref in ("away", "gone", "there")] == [
        OLD.bundle, OLD.bundle, NEW.bundle]


def test_who_is_going_is_left_alone(store, sealer, uses):
    lb, drawer = uses(site=OLD.bundle), Drawer(site=NEW.bundle)
    with store.write() as connection:
        connection.execute(update(load_balancers).values(deleting=True))
    Renewals(store, drawer, sealer).look()
    assert (version_of(store, lb), drawer.asked) == (3, [])


def test_of_two_that_look_at_once_one_rolls_out(store, sealer, uses):
    lb, fresh = uses(site=OLD.bundle), secrets.sealed(pem.read(NEW.bundle.encode(), now=datetime.now(UTC)), sealer)
    with store.read() as connection:
        [seen] = secrets.in_use(connection, START, limit=9)
    outcomes = []
    for _ in range(2):
        with store.write() as connection:
            outcomes.append(secrets.renew(connection, seen, fresh))
    assert outcomes == [True, False]
    assert version_of(store, lb) == 4


def test_many_are_looked_at_a_bite_at_a_time(store, sealer, uses):
    drawer = Drawer()
    uses(**{f"ref-{number:03}": ROOT.pem for number in range(120)})
    renewals = Renewals(store, drawer, sealer)
    place = renewals.look()
    assert (len(drawer.asked), place[1]) == (100, "ref-099")
    assert renewals.look(place) == START
    assert [ref for ref, _ in drawer.asked] == [f"ref-{number:03}" for number in range(120)]
    with store.read() as connection:
        assert len(connection.execute(select(sealed_secrets.c.ref)).all()) == 120
