# SPDX-License-Identifier: Apache-2.0
"""HAProxy complains about lines; users have listeners, pools and members."""

import pytest

from statera.agent.blame import named
from statera.agent.process import gist

FILE = """\
global
    nbthread 1

frontend listener-1
    bind 192.0.2.1:80

backend pool-1:listener-1
    balance roundrobin
    server member-1 192.0.2.10:80
"""


@pytest.mark.parametrize(("line", "whose"), [
    pytest.param(2, "", id="a line of nobody"),
    pytest.param(5, "listener listener-1: ", id="a listener's"),
    pytest.param(8, "pool pool-1: ", id="a pool's"),
    pytest.param(9, "member member-1 of pool pool-1: ", id="a member's"),
])
def test_a_complaint_is_headed_by_the_object_in_whose_line_it_is(line, whose):
    said = f"haproxy -c: exit status 1: config : parsing [/x/haproxy.cfg.candidate:{line}] : no. config : Fatal errors."
    assert named(said, FILE) == f"{whose}HAProxy says: no"


def test_a_message_without_a_line_is_left_as_it_is():
    assert named("HAProxy is silent", FILE) == "HAProxy is silent"


def test_the_same_death_is_told_in_the_same_words():
    line = "[NOTICE]   ({0}) : hello\n[ALERT]    ({0}) : Current worker ({0}) exited with code 139\n"
    assert {gist(line.format(pid).encode()) for pid in (10, 2000)} == {"Current worker exited with code 139"}
