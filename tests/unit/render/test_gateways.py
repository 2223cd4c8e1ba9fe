# SPDX-License-Identifier: Apache-2.0
"""Questions for a gateway stay on their host; the kernel's own parser has the last word on the text."""

import subprocess

from statera.render.gateways import CLEAR, render
from statera.wire import LocalNetwork

BLUE = LocalNetwork(id="b", bridge="st-blue", vni=5001, gateways=("10.1.0.1/24", "fd00:1::1/64"))
RED = LocalNetwork(id="r", bridge="st-red", vni=5002)


def test_each_gateway_is_asked_for_only_on_its_own_host() -> None:
    rules = render([BLUE, RED])
    assert 'oifname "st-vx5001" ether type arp arp operation request arp daddr ip 10.1.0.1 drop' in rules
    assert 'oifname "st-vx5001" icmpv6 type nd-neighbor-solicit' in rules
    assert "@th,64,128 0xfd000001000000000000000000000001 drop" in rules
    assert "arp saddr ip 10.1.0.1 arp saddr ip set 0.0.0.0" in rules
    assert "5002" not in rules


def test_the_rules_replace_whatever_was_there_before() -> None:
    assert render([BLUE]).startswith(CLEAR)


def test_nft_takes_the_rules() -> None:
    done = subprocess.run(["nft", "-c", "-f", "-"], input=render([BLUE, RED]), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
