# SPDX-License-Identifier: Apache-2.0
"""octavia-db-manage and octavia-status as an operator types them."""

import pytest
from oslo_config import cfg

from statera.commands import db_manage, upgrade_check
from statera.config import load
from statera.errors import SetupError
from statera.store.engine import Store
from statera.store.migrations import REVISIONS, require_schema

OPTIONS = {db_manage.manage: db_manage.OPTIONS, upgrade_check.check: upgrade_check.OPTIONS}


@pytest.fixture
def type_in(database_url, tmp_path, capsys):
    """Type a command's words; returns what it printed."""
    file = tmp_path / "octavia.conf"
    file.write_text(f"[database]\nconnection = {database_url}\n[haproxy_amphora]\nhaproxy_cmd = /nowhere/haproxy\n")

    def run(command, *words):
        conf = cfg.ConfigOpts()
        conf.register_cli_opts(OPTIONS[command])
        command(load(conf, ["--config-file", str(file), *words], prog="test"), conf)
        return capsys.readouterr().out

    return run


def test_upgrade_head_makes_a_database_that_every_service_accepts(type_in, database_url):
    type_in(db_manage.manage, "upgrade", "head")
    store = Store(database_url)
    require_schema(store)
    store.close()
    assert f"{REVISIONS[-1]} (head)" in type_in(db_manage.manage, "current")
    assert "up to date" in type_in(db_manage.manage, "check_migration")


def test_statistics_count_rows_and_bytes(type_in):
    type_in(db_manage.manage, "upgrade", "head")
    lines = {line.rsplit(None, 1)[0].strip(): line.rsplit(None, 1)[1] for line in type_in(
        db_manage.manage, "statistics").splitlines()}
    assert lines["load_balancers"] == lines["load balancers due"] == "0"
    assert int(lines["bytes"]) > 10_000


def test_sql_is_printed_and_nothing_is_changed(type_in, database_url):
    assert "CREATE TABLE load_balancers" in type_in(db_manage.manage, "upgrade", "head", "--sql")
    with pytest.raises(SetupError, match="no schema yet"):
        type_in(db_manage.manage, "check_migration")


@pytest.mark.parametrize(("words", "answer"), [
    pytest.param(["downgrade", "0001"], "restore a backup", id="downgrade"),
    pytest.param(["upgrade"], "say how far", id="upgrade without a goal"),
    pytest.param(["upgrade", "bogus"], "bogus", id="an unknown revision"),
])
def test_what_cannot_be_done_says_what_to_do(type_in, words, answer):
    with pytest.raises(SetupError, match=answer):
        type_in(db_manage.manage, *words)


@pytest.mark.parametrize(("words", "answer"), [
    pytest.param(["history"], f"{REVISIONS[-1]} (head)", id="history"),
    pytest.param(["branches"], "", id="branches"),
    pytest.param(["upgrade_persistence"], "Nothing to do", id="upgrade_persistence"),
])
def test_what_needs_no_database(type_in, words, answer):
    assert answer in type_in(db_manage.manage, *words)


def test_the_upgrade_check_exits_with_the_worst_result(type_in, capsys):
    with pytest.raises(SystemExit, match="2"):
        type_in(upgrade_check.check, "upgrade", "check")
    assert "run octavia-db-manage upgrade head" in capsys.readouterr().out
    type_in(db_manage.manage, "upgrade", "head")
    with pytest.raises(SystemExit, match="1"):
        type_in(upgrade_check.check, "upgrade", "check")
    assert "this host cannot be a node" in capsys.readouterr().out
