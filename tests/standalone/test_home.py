# SPDX-License-Identifier: Apache-2.0
"""The state folder: written once, completed, and refused with a sentence."""

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from statera.api.standalone.users import Credentials, Users
from statera.commands import checks, home
from statera.commands.home import API, NODES, Bind, Binds, Home
from statera.errors import SetupError

BINDS = Binds(api=API, nodes=NODES)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "state")


def start(place: Home) -> None:
    with home.held(place):
        home.prepare(place, home.binds(place, None, None))


def password(place: Home) -> str:
    found = home.kept_password(place)
    assert found is not None
    return found


def test_the_first_start_writes_all_and_only_root_reads_it(place: Home) -> None:
    start(place)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (place.configuration, place.users, place.clouds)}
    assert modes == {"octavia.conf": 0o600, "users.yaml": 0o600, "clouds.yaml": 0o600}
    assert stat.S_IMODE(place.state.stat().st_mode) == 0o700


def test_the_generated_admin_gets_in(place: Home) -> None:
    start(place)
    user = Users(place.users).check(Credentials("admin", password(place)))
    assert user is not None
    assert "admin" in user.roles


def test_clouds_yaml_names_both_endpoints(place: Home) -> None:
    start(place)
    cloud = msgspec.yaml.decode(place.clouds.read_bytes())["clouds"]["statera"]
    assert cloud["load_balancer_endpoint_override"] == "http://127.0.0.1:9876"
    assert cloud["network_endpoint_override"] == "http://127.0.0.1:9876/network"


def test_a_second_start_changes_nothing(place: Home) -> None:
    start(place)
    before = {path.name: path.read_bytes() for path in place.state.iterdir() if path.is_file()}
    start(place)
    assert {path.name: path.read_bytes() for path in place.state.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("lost", ["clouds", "users", "configuration"])
def test_a_half_written_state_is_completed(place: Home, lost: str) -> None:
    start(place)
    getattr(place, lost).unlink()
    start(place)
    assert Users(place.users).check(Credentials("admin", password(place))) is not None


def test_other_users_stay_when_the_admin_gets_a_new_password(place: Home) -> None:
    start(place)
    place.users.write_text(place.users.read_text() + "- {name: eve, password: x, project_id: p, roles: [member]}\n")
    place.clouds.unlink()
    start(place)
    assert "eve" in place.users.read_text()


def test_a_spoilt_clouds_yaml_is_named(place: Home) -> None:
    start(place)
    place.clouds.write_text("clouds: {}")
    with pytest.raises(SetupError, match=r"clouds\.yaml is not what `statera up` wrote; remove it"):
        start(place)


def test_a_spoilt_octavia_conf_is_named_with_the_value(place: Home) -> None:
    start(place)
    place.configuration.write_text("[api_settings]\nbind_port = many\n")
    with pytest.raises(SetupError, match="bind_port"):
        start(place)


def test_another_address_than_octavia_conf_says_is_refused(place: Home) -> None:
    start(place)
    with pytest.raises(SetupError, match=r"octavia\.conf says 127\.0\.0\.1:9876: change it there"):
        home.binds(place, Bind("127.0.0.1", 1), None)


def test_addresses_are_taken_over_at_the_first_start(place: Home) -> None:
    asked = home.binds(place, Bind("::1", 19876), None)
    with home.held(place):
        settings = home.prepare(place, asked)
    assert home.api_url(settings) == "http://[::1]:19876"


def test_clients_on_the_host_reach_an_api_that_listens_everywhere(place: Home) -> None:
    with home.held(place):
        settings = home.prepare(place, Binds(api=Bind("0.0.0.0", 9876), nodes=NODES))
    assert home.api_url(settings) == "http://127.0.0.1:9876"


def test_a_second_run_is_refused_and_names_the_first(place: Home) -> None:
    with home.held(place):
        assert checks.running_already(place, BINDS) == (
            f"it runs already, as process {os.getpid()}; `statera down` stops it")
        with pytest.raises(SetupError, match="runs already"), home.held(place):
            pass
    assert checks.running_already(place, BINDS) is None


def test_a_taken_port_is_named_with_the_option(place: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = Bind("127.0.0.1", server.getsockname()[1])
        sentence = checks.taken_port(place, Binds(api=taken, nodes=NODES))
    assert sentence is not None
    assert f"cannot listen on {taken}" in sentence
    assert "--api-bind" in sentence


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="choose another with --state"), home.held(Home(tmp_path / "file" / "state")):
        pass


def test_nothing_was_ever_started_here(place: Home) -> None:
    with pytest.raises(SetupError, match="there is nothing in"):
        home.read(place)


def test_a_folder_of_someone_else_is_not_removed(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="it is not removed"):
        home.remove(Home(tmp_path))
    assert tmp_path.exists()
