# SPDX-License-Identifier: Apache-2.0
"""A backup is whole, of one moment and good for any database; a restore keeps what is true now of the world outside."""

import gzip
from collections import Counter
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, insert, select, update

from benchmarks import servers
from statera.errors import SetupError
from statera.store import backup, restoring, strays, tables
from statera.store.backup import LEFT_OUT
from statera.store.engine import Store
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade
from statera.store.tables import metadata

NOW = utc_now()
NODE = {"name": "here", "created_at": NOW, "features": ["x"]}
LISTENER = {"project_id": "p", "created_at": NOW, "created_version": 1, "wanted_version": 1, "protocol": "HTTP",
            "protocol_port": 80, "timeout_client_data": 1, "timeout_member_connect": 1, "timeout_member_data": 1,
            "timeout_tcp_inspect": 0, "insert_headers": {"X-Forwarded-For": "true"}, "name": "wéb ✓"}


def take(store, path):
    with path.open("wb") as file:
        return list(backup.write(store, file))


def put(store, path, grace_seconds=60.0):
    header = backup.read_header(path)
    with store.write() as connection:
        restoring.restore(
            connection, path, made_at=header.made_at, grace_seconds=grace_seconds, seen=lambda _count: None)


def rows(store, table, *where):
    with store.read() as connection:
        return [dict(row) for row in connection.execute(
            select(*backup.columns(table)).where(*where).order_by(*table.primary_key)).mappings()]


def row(store, table, id):
    (found,) = rows(store, table, table.c.id == id)
    return found


def carry(connection, lb, amphora, **facts):
    connection.execute(insert(tables.amphorae).values(**{
        "id": amphora, "load_balancer_id": lb, "role": "STANDALONE", "born_version": 1, "node_id": "n1",
        "applied_version": 4, "created_at": NOW, **facts}))


@pytest.fixture
def lived(store, load_balancer):
    """A database with something in most tables."""
    lb = load_balancer(id="lb-1", name="one", version=5, done_version=5, wanted_version=5, vip_sg_ids=["a"])
    with store.write() as connection:
        connection.execute(insert(tables.nodes).values(id="n1", **NODE))
        connection.execute(insert(tables.listeners).values(id="l1", load_balancer_id=lb, **LISTENER))
        connection.execute(insert(tables.tags).values(resource_id="l1", tag="t"))
        carry(connection, lb, "a1")
        connection.execute(insert(tables.networks).values(
            id="net", project_id="p", name="n", bridge="b", created_at=NOW))
        connection.execute(insert(tables.subnets).values(
            id="sub", network_id="net", project_id="p", name="s", cidr="10.0.0.0/24", ip_version=4,
            allocation_pools=[{"start": "10.0.0.2", "end": "10.0.0.9"}], created_at=NOW))
        plug(connection, "port-1", "10.0.0.2")
        connection.execute(insert(tables.managers).values(id="m1", host="h", alive_until_ms=10**14))
        connection.execute(insert(tables.node_tokens).values(token_hash="t", expires_ms=10**14))
        connection.execute(insert(tables.events).values(
            at=NOW, load_balancer_id=lb, object_type="t", object_id="o", reason="then", message="m"))
    return store


def plug(connection, port, address):
    connection.execute(insert(tables.ports).values(
        id=port, network_id="net", project_id="p", name=f"octavia-lb-{port}", mac_address="m", created_at=NOW))
    connection.execute(insert(tables.port_addresses).values(subnet_id="sub", ip_address=address, port_id=port))


@pytest.mark.parametrize("target", ["sqlite", "postgresql", "mariadb"])
def test_what_is_written_on_one_database_is_read_on_any(lived, tmp_path, target, request):
    take(lived, tmp_path / "file")
    url = (f"sqlite:///{tmp_path}/other.db" if target == "sqlite"
           else servers.create_database(request.getfixturevalue(target)))
    other = Store(url)
    upgrade(other)
    put(other, tmp_path / "file")
    lifted = {"version", "infra_version", "lease_token", "due_ms", "told_version"}
    for table in backup.tables():
        before, after = rows(lived, table), rows(other, table)
        if table is tables.events:
            after = [each for each in after if each["reason"] != "restored"]
        if table is tables.load_balancers:
            before, after = ([{k: v for k, v in each.items() if k not in lifted} for each in some]
                             for some in (before, after))
        assert after == before, table.name
    assert all(rows(other, table) == [] for table in LEFT_OUT - {tables.restores})
    other.close()


def test_an_event_after_a_restore_gets_an_id_of_its_own(lived, tmp_path):
    take(lived, tmp_path / "file")
    put(lived, tmp_path / "file")
    put(lived, tmp_path / "file")
    with lived.read() as connection:
        reasons = Counter(connection.execute(select(tables.events.c.reason)).scalars())
    assert reasons == {"then": 1, "restored": 2}


@pytest.mark.parametrize("backend", ["sqlite"])
def test_progress_ends_with_all(lived, tmp_path):
    steps = take(lived, tmp_path / "file")
    assert steps[-1][0] == steps[-1][1] == backup.read_header(tmp_path / "file").rows


def test_a_backup_is_of_one_moment(lived, tmp_path, load_balancer):
    with (tmp_path / "file").open("wb") as file:
        steps = backup.write(lived, file)
        next(steps)
        load_balancer(id="later")
        list(steps)
    ids = {each["id"] for table, some in backup.read_rows(tmp_path / "file") if table is tables.load_balancers
           for each in some}
    assert ids == {"lb-1"}


def test_versions_are_beyond_whatever_nodes_run_and_leases_are_worth_nothing(lived, tmp_path):
    take(lived, tmp_path / "file")
    change(lived, "lb-1", version=900, done_version=900, wanted_version=900, lease_token=70, lease_owner="w")
    put(lived, tmp_path / "file")
    lb = row(lived, tables.load_balancers, "lb-1")
    assert lb["version"] == lb["infra_version"] == lb["lease_token"] > 10**12
    assert (lb["wanted_version"], lb["done_version"], lb["lease_owner"]) == (5, 5, None)
    before = lb["version"]
    change(lived, "lb-1", version=before + 3)
    put(lived, tmp_path / "file")
    assert row(lived, tables.load_balancers, "lb-1")["version"] > before + 3


def change(store, lb, **values):
    with store.write() as connection:
        connection.execute(update(tables.load_balancers).where(tables.load_balancers.c.id == lb).values(**values))


def test_wishes_are_those_of_then_and_the_world_is_that_of_now(lived, tmp_path, load_balancer):
    take(lived, tmp_path / "file")
    load_balancer(id="lb-2", name="two")
    with lived.write() as connection:
        connection.execute(update(tables.listeners).values(protocol_port=81))
        connection.execute(update(tables.amphorae).where(tables.amphorae.c.id == "a1").values(
            deleted_at=NOW, leaving=True, gone=True))
        carry(connection, "lb-1", "a1-next", applied_version=800)
        carry(connection, "lb-2", "a2")
        connection.execute(insert(tables.nodes).values(id="n2", **{**NODE, "name": "joined later"}))
        connection.execute(update(tables.nodes).where(tables.nodes.c.id == "n1").values(drained=True, manager_id="m1"))
        plug(connection, "port-2", "10.0.0.3")
    with lived.read() as connection:
        found = restoring.difference(connection, tmp_path / "file")
    assert (found.back, found.unknown) == ((), ("two",))
    put(lived, tmp_path / "file")
    assert [each["id"] for each in rows(lived, tables.load_balancers)] == ["lb-1"]
    assert row(lived, tables.listeners, "l1")["protocol_port"] == 80
    serving = rows(lived, tables.amphorae, tables.amphorae.c.deleted_at.is_(None))
    assert [(each["id"], each["applied_version"]) for each in serving] == [("a1-next", 800)]
    assert {each["id"] for each in rows(lived, tables.nodes)} == {"n1", "n2"}
    assert row(lived, tables.nodes, "n1")["drained"] is True
    assert {each["id"] for each in rows(lived, tables.ports)} == {"port-1", "port-2"}
    assert row(lived, tables.load_balancers, "lb-1")["manager_id"] == "m1"


def test_what_was_deleted_since_comes_back_with_its_address(lived, tmp_path):
    take(lived, tmp_path / "file")
    with lived.write() as connection:
        connection.execute(update(tables.load_balancers).values(deleted_at=NOW))
        connection.execute(delete(tables.listeners))
        connection.execute(delete(tables.ports))
        plug(connection, "somebody else's", "10.0.0.2")
    put(lived, tmp_path / "file")
    assert row(lived, tables.load_balancers, "lb-1")["deleted_at"] is None
    assert [each["id"] for each in rows(lived, tables.amphorae)] == ["a1"]
    addresses = {each["ip_address"]: each["port_id"] for each in rows(lived, tables.port_addresses)}
    assert addresses == {"10.0.0.2": "port-1"}


def test_a_network_that_comes_back_gets_another_number_if_its_own_is_given_away(lived, tmp_path):
    with lived.write() as connection:
        connection.execute(update(tables.networks).values(vni=4096))
    take(lived, tmp_path / "file")
    with lived.write() as connection:
        for table in (tables.port_addresses, tables.ports, tables.subnets, tables.networks):
            connection.execute(delete(table))
        connection.execute(insert(tables.networks).values(
            id="later", project_id="p", name="n", bridge="b2", created_at=NOW, vni=4096))
    put(lived, tmp_path / "file")
    assert {each["id"]: each["vni"] for each in rows(lived, tables.networks)} == {"later": 4096, "net": 4097}


@pytest.mark.parametrize("backend", ["sqlite"])
def test_an_amphora_whose_node_joined_again_under_another_id_is_nowhere(lived, tmp_path):
    take(lived, tmp_path / "file")
    with lived.write() as connection:
        for table in (tables.amphorae, tables.load_balancers, tables.nodes):
            connection.execute(delete(table))
        connection.execute(insert(tables.nodes).values(id="n9", **NODE))
    put(lived, tmp_path / "file")
    assert [each["id"] for each in rows(lived, tables.nodes)] == ["n9"]
    assert row(lived, tables.amphorae, "a1")["node_id"] is None


def authority(store, id, generation=1):
    with store.write() as connection:
        connection.execute(insert(tables.authorities).values(
            id=id, generation=generation, certificate="c", sealed="s", created_at=NOW, signs_since=NOW))


def test_an_authority_that_took_over_since_stays(lived, tmp_path):
    authority(lived, "old")
    take(lived, tmp_path / "file")
    authority(lived, "new", 2)
    put(lived, tmp_path / "file")
    assert {each["id"] for each in rows(lived, tables.authorities)} == {"old", "new"}


def test_nodes_that_know_nobody_else_find_the_backups_authority(lived, tmp_path):
    authority(lived, "theirs")
    take(lived, tmp_path / "file")
    with lived.write() as connection:
        connection.execute(delete(tables.authorities))
    authority(lived, "made by a new installation")
    put(lived, tmp_path / "file")
    assert [each["id"] for each in rows(lived, tables.authorities)] == ["theirs"]


def test_strangers_are_spared_for_a_while_but_not_those_that_were_to_leave(lived, tmp_path):
    take(lived, tmp_path / "file")
    with lived.write() as connection:
        carry(connection, "lb-1", "retired", deleted_at=NOW)
        assert strays.spared(connection, {"retired", "unknown"}) == frozenset()
    put(lived, tmp_path / "file")
    with lived.write() as connection:
        assert strays.spared(connection, {"retired", "unknown"}) == {"unknown"}
        assert 0 < strays.grace_seconds(connection) <= 60
        strays.end_grace(connection)
        assert strays.spared(connection, {"unknown"}) == frozenset()


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize(("harm", "why"), [
    pytest.param(lambda data: data[:-20], "not a whole backup", id="cut off"),
    pytest.param(lambda _data: gzip.compress(b"hello"), "not a whole backup", id="something else"),
    pytest.param(lambda _data: b"", "not a whole backup", id="empty"),
    pytest.param(lambda data: gzip.compress(b"".join(
        line for line in gzip.decompress(data).splitlines(keepends=True) if b"a1" not in line)), "instead of",
        id="a row less"),
    pytest.param(lambda data: gzip.compress(gzip.decompress(data).replace(b'"revision":"0', b'"revision":"9')),
                 "newer release", id="of the future"),
])
def test_what_is_no_good_backup_is_refused_before_anything_changes(lived, tmp_path, harm, why):
    take(lived, tmp_path / "file")
    (tmp_path / "file").write_bytes(harm((tmp_path / "file").read_bytes()))
    with pytest.raises(SetupError, match=why):
        backup.read_header(tmp_path / "file")


def test_master_keys_open_with_their_passphrase_only():
    keys = [Fernet.generate_key(), Fernet.generate_key()]
    sealed = backup.seal_keys(keys, b"open sesame")
    assert backup.open_keys(sealed, b"open sesame") == keys
    with pytest.raises(SetupError, match="does not open the master keys"):
        backup.open_keys(sealed, b"open barley")


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_restore_that_fails_midway_changes_nothing(lived, tmp_path):
    take(lived, tmp_path / "file")
    before = {table: rows(lived, table) for table in metadata.sorted_tables}

    def interrupt(_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lived.write() as connection:
        restoring.restore(connection, tmp_path / "file", made_at=NOW, grace_seconds=1, seen=interrupt)
    assert {table: rows(lived, table) for table in metadata.sorted_tables} == before


@pytest.mark.parametrize("backend", ["sqlite"])
def test_an_older_backup_lacks_columns_and_is_read(lived, tmp_path):
    take(lived, tmp_path / "file")
    text = gzip.decompress((tmp_path / "file").read_bytes())
    (tmp_path / "file").write_bytes(gzip.compress(text.replace(b'"zone"', b'"gone_since"')))
    put(lived, tmp_path / "file")
    assert timedelta(0) <= utc_now() - rows(lived, tables.restores)[0]["restored_at"] < timedelta(minutes=1)
