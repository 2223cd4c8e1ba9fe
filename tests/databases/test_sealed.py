# SPDX-License-Identifier: Apache-2.0
"""The master key is exchanged while everything runs; the certificate authority is one for all who start at once."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, select, update

from statera.config import Default, Settings
from statera.errors import GiveUp
from statera.fleet.authority import Authority
from statera.store import resealing, tables
from statera.store.events import utc_now
from statera.store.resealing import ROWS_AT_ONCE, SEALED
from statera.store.secrets import Sealer, ensure_sealer, read_keys, write_keys

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()
COUNT = ROWS_AT_ONCE + 30


@pytest.fixture
def full(store, load_balancer):
    """More secrets than one bite takes, sealed with the old key, and a lost one."""
    lb = load_balancer()
    with store.write() as connection:
        connection.execute(insert(tables.secrets), [
            {"id": f"s{number:03}", "project_id": "p", "secret_type": "opaque", "payload_content_type": "text/plain",
             "sealed": Sealer(OLD).seal(b"%d" % number), "created_at": utc_now()} for number in range(COUNT)])
        connection.execute(insert(tables.sealed_secrets), [
            {"load_balancer_id": lb, "ref": f"ref-{number}", "digest": "d", "sealed": Sealer(OLD).seal(b"secret")}
            for number in range(COUNT)])
    return store


def sealed(store, table):
    with store.read() as connection:
        return list(connection.execute(select(table.c.sealed)).scalars())


def test_no_table_with_sealed_rows_is_forgotten():
    assert {table for table in tables.metadata.tables.values() if "sealed" in table.c} == set(SEALED)


def test_everything_is_sealed_anew_once(full):
    steps = list(resealing.reseal(full, [NEW, OLD]))
    assert sum(step.changed for step in steps) == sum(step.seen for step in steps) == 2 * COUNT
    assert {Sealer(NEW).open(each) for each in sealed(full, tables.secrets)} == {b"%d" % n for n in range(COUNT)}
    assert resealing.opened_by(full, [NEW, OLD]) == {0: 2 * COUNT}
    assert sum(step.changed for step in resealing.reseal(full, [NEW, OLD])) == 0


def test_an_exchange_that_was_cut_off_goes_on(full):
    first, = islice(resealing.reseal(full, [NEW, OLD]), 1)
    assert first.changed == ROWS_AT_ONCE
    assert resealing.opened_by(full, [NEW, OLD]) == {0: ROWS_AT_ONCE, 1: 2 * COUNT - ROWS_AT_ONCE}
    assert sum(step.changed for step in resealing.reseal(full, [NEW, OLD])) == 2 * COUNT - ROWS_AT_ONCE


def test_what_somebody_writes_meanwhile_is_left_to_that(full):
    exchange = resealing.reseal(full, [NEW, OLD])
    next(exchange)
    with full.write() as connection:
        connection.execute(update(tables.secrets).where(tables.secrets.c.id == "s129").values(
            sealed=Sealer(NEW).seal(b"newer")))
    list(exchange)
    with full.read() as connection:
        row = connection.execute(select(tables.secrets.c.sealed).where(tables.secrets.c.id == "s129")).scalar_one()
    assert Sealer(NEW).open(row) == b"newer"


def test_what_nobody_can_open_is_told_and_left(full):
    with full.write() as connection:
        connection.execute(update(tables.secrets).where(tables.secrets.c.id == "s000").values(sealed="gAAAAA"))
    assert sum(step.lost for step in resealing.reseal(full, [NEW, OLD])) == 1
    assert resealing.opened_by(full, [NEW])[None] == 1


def test_a_running_service_notices_a_new_key_in_the_file(tmp_path):
    running = ensure_sealer(tmp_path / "key")
    old = read_keys(tmp_path / "key")
    before = running.seal(b"before")
    write_keys(tmp_path / "key", [NEW, *old])
    assert running.open(before) == b"before"
    assert Sealer(NEW).open(running.seal(b"after")) == b"after"
    assert running.open(Sealer(NEW).seal(b"by another service")) == b"by another service"
    with pytest.raises(GiveUp):
        Sealer(*old).open(running.seal(b"after"))


def test_a_key_file_that_breaks_leaves_running_services_what_they_had(tmp_path, caplog):
    running = ensure_sealer(tmp_path / "key")
    before = running.seal(b"before")
    (tmp_path / "key").write_text("no key\n")
    assert running.open(before) == b"before"
    assert "the keys from before are used" in caplog.text


def test_hosts_that_start_at_once_share_one_authority(store, tmp_path):
    def start(number):
        settings = Settings(default=Default(host=f"host-{number}", state_path=str(tmp_path / str(number))))
        return Authority(store, sealer, settings).ids

    sealer = ensure_sealer(tmp_path / "key")
    with ThreadPoolExecutor(6) as threads:
        seen = set(threads.map(start, range(6)))
    assert len(seen) == 1
    assert len(seen.pop()) == 1
