# SPDX-License-Identifier: Apache-2.0
"""The small pure decisions of the agent."""

import pytest

from statera.agent import legs, programs, runtime
from statera.agent.files import Home
from statera.agent.host import lost, most_connections
from statera.errors import GiveUp
from statera.wire import LocalNetwork


def test_a_leg_has_a_short_name_of_its_own():
    names = {legs.outer_name(f"amphora-{n}", leg) for n in range(100) for leg in ("eth1", "eth2")}
    assert len(names) == 200
    assert max(map(len, names)) == 15


@pytest.mark.parametrize("bad", ["", "..", "a/b", "../../etc", "a b", "x" * 65])
def test_an_id_cannot_leave_the_state_folder(bad, tmp_path):
    with pytest.raises(GiveUp, match="is not an amphora's id"):
        Home(tmp_path, bad)


@pytest.mark.parametrize(("descriptors", "connections"), [
    pytest.param(1024, 209, id="a small limit"),
    pytest.param(20_000, 7_800, id="a container's limit"),
    pytest.param(1_048_576, 419_230, id="systemd's limit"),
    pytest.param(-1, 399_800, id="no limit"),
])
def test_as_many_connections_as_descriptors_allow(descriptors, connections):
    assert most_connections(descriptors) == connections


@pytest.mark.parametrize("answer", [
    "New server registered.", "Server deleted.", "All sockets are already enabled.",
    "IP changed from '127.0.0.1' to '127.0.0.2', port changed from '9992' to '33' by 'stats socket command'",
    "no need to change the addr, no need to change the port by 'stats socket command'",
])
def test_answers_that_mean_obeyed(answer):
    assert runtime.OBEYED.fullmatch(answer)


@pytest.mark.parametrize("answer", [
    "No such server.", "No such backend.", "Already exists a server with the same name in backend."])
def test_answers_that_mean_refused(answer):
    assert not runtime.OBEYED.fullmatch(answer)


def test_a_missing_program_is_named_with_the_line_that_installs_it():
    with pytest.raises(GiveUp, match="apt-get install nothing-like-it"):
        programs.program("nothing-like-it")


def test_networks_that_are_no_more():
    one, two = LocalNetwork(id="1", bridge="br1"), LocalNetwork(id="2", bridge="br2")
    assert lost((one, two), (two,)) == (one,)
    assert lost((one,), (LocalNetwork(id="1", bridge="br1", gateways=("10.0.0.1/24",)),)) == ()
