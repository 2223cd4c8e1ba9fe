# SPDX-License-Identifier: Apache-2.0
"""`statera lb log` shows and sets where the lines about connections go."""

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select

from statera.commands import build, home
from statera.commands.umbrella import statera
from statera.errors import SetupError
from statera.store import tables
from statera.store.events import utc_now
from statera.store.migrations.upgrade import upgrade


@pytest.fixture
def store(tmp_path):
    """The database of a state folder in which there is one load balancer."""
    (tmp_path / "octavia.conf").write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n")
    opened = build.open_store(home.read(home.Home(tmp_path)))
    upgrade(opened)
    with opened.write() as connection:
        connection.execute(insert(tables.load_balancers).values(
            id="lb", name="shop", project_id="p", provider="amphora", topology="SINGLE", created_at=utc_now()))
    yield opened
    opened.close()


@pytest.fixture
def say(tmp_path, store):
    def run(*words):
        came = CliRunner().invoke(statera, ["lb", "log", "shop", "--state", str(tmp_path), *words])
        if came.exception:
            raise came.exception
        return came.output

    return run


def wanted(store):
    with store.read() as connection:
        return tuple(connection.execute(
            select(tables.load_balancers.c.log_target, tables.load_balancers.c.version)).one())


def test_a_log_server_is_named_shown_and_taken_back(say, store, tmp_path):
    assert say().splitlines() == ["log server: none", f"files on the nodes: {tmp_path}/amphorae/<amphora>/logs"]
    assert "log server: tcp://10.0.0.5:514" in say("--to", "tcp://10.0.0.5:514")
    assert wanted(store) == ("tcp://10.0.0.5:514", 2)
    assert "log server: none" in say("--off")
    assert wanted(store) == (None, 3)


@pytest.mark.parametrize(("words", "fault"), [
    pytest.param(("--to", "tcp://logs:514"), "must be like tcp://10.0.0.5:514", id="a name"),
    pytest.param(("--to", "tcp://10.0.0.5:514", "--off"), "either --to or --off", id="both"),
])
def test_what_makes_no_sense_is_refused(say, store, words, fault):
    with pytest.raises(SetupError, match=fault):
        say(*words)
    assert wanted(store) == (None, 1)
