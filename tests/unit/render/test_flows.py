# SPDX-License-Identifier: Apache-2.0
"""Shares are exact, a change moves few, and no text of a user becomes a rule."""

import ipaddress
import os
import re
import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.render import flows
from statera.wire import Address, ListenerSpec, MemberSpec, PersistenceSpec, PoolSpec, Spec

WEIGHTS = st.dictionaries(st.integers(1, 2**31), st.integers(1, 256), min_size=1, max_size=12)


@given(WEIGHTS)
def test_turns_are_shared_by_weight_and_never_bunched(weights):
    turns = flows.interleaved(flows.scaled(weights))
    counted, total = Counter(turns), sum(weights.values())
    assert all(counted[number] * total == weight * len(turns) for number, weight in weights.items())
    for number, weight in weights.items():
        seen = 0
        for position, turn in enumerate(turns, 1):
            seen += turn == number
            assert abs(seen - position * weight / total) <= len(weights)


def test_too_many_turns_become_fewer_and_nobody_is_left_out():
    shares = flows.scaled(dict.fromkeys(range(1, 900), 255) | {1000: 1})
    assert sum(shares.values()) < 1.2 * flows.MOST_SLOTS
    assert shares[1000] == 1


@given(WEIGHTS, st.data())
def test_who_leaves_a_hash_moves_only_their_own_clients(weights, data):
    gone = data.draw(st.sampled_from(sorted(weights)))
    stay = {number: weight for number, weight in weights.items() if number != gone}
    if stay:
        before, after = flows.buckets(weights), flows.buckets(stay)
        assert all(was in (now, gone) for was, now in zip(before, after, strict=True))


def test_a_hash_shares_by_weight():
    counted = Counter(flows.buckets({11: 1, 12: 3}))
    assert 0.18 < counted[11] / flows.BUCKETS < 0.32


def spec_of(*, listener="l", pool="p", member="m", address="10.0.0.2", granularity="255.255.255.0", cidr="10.0.0.0/8",
            algorithm="ROUND_ROBIN"):
    persistence = PersistenceSpec(type="SOURCE_IP", persistence_granularity=granularity)
    members = (MemberSpec(id=member, address=address, protocol_port=53),)
    return Spec(
        amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(),
        vips=(Address(ip="10.0.0.9", prefix=24),),
        listeners=(ListenerSpec(id=listener, protocol="UDP", protocol_port=53, default_pool_id=pool,
                                allowed_cidrs=(cidr,)),),
        pools=(PoolSpec(id=pool, protocol="UDP", lb_algorithm=algorithm, members=members,
                        session_persistence=persistence),))


HARMLESS = flows.render(spec_of())
NASTY = ["} accept", "l; flush ruleset", "255.255.255.0 }", "10.0.0.2\nadd", '"', "fd00::1", "64", "0", "255.0.255.0"]


@given(field=st.sampled_from(["listener", "pool", "member", "address", "granularity", "cidr", "algorithm"]),
       text=st.text(min_size=1) | st.sampled_from(NASTY))
def test_no_text_of_a_user_becomes_a_rule(field, text):
    try:
        rendered = flows.render(spec_of(**{field: text}))
    except GiveUp:
        return
    assert GRAMMAR[field](text)
    words, harmless = (set(re.findall(r"\w+", one)) for one in (rendered, HARMLESS))
    assert words - harmless <= {word for word in words if re.search(r"\d|^[a-f]+$", word)} | {text}


GRAMMAR = {
    "listener": lambda text: re.fullmatch("[0-9A-Za-z-]+", text),
    "pool": lambda text: True,
    "member": lambda text: True,
    "address": ipaddress.ip_address,
    "granularity": lambda text: ipaddress.ip_network(f"{'::' if text.isdecimal() else '0.0.0.0'}/{text}"),
    "cidr": lambda text: ipaddress.ip_network(text, strict=False),
    "algorithm": flows.ALGORITHMS.__contains__,
}
"""What each text must be to come so far; of ids of pools and members only numbers are written."""


def test_only_what_is_no_longer_declared_is_deleted():
    former, text = flows.render(spec_of()), flows.render(spec_of(listener="new"))
    added = flows.transition(former, text).removeprefix(text).splitlines()
    deleted = sorted(line.split()[1] for line in added if line.startswith("delete "))
    assert deleted == ["chain", "counter", "counter", "counter", "map"]
    assert flows.transition(former, former) == former
    assert flows.transition(former, "") == flows.CLEAR
    assert flows.transition("", "") == ""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
@pytest.mark.parametrize("text", [HARMLESS, flows.render(spec_of(algorithm="SOURCE_IP_PORT"))], ids=["turns", "hash"])
def test_nft_accepts_what_is_rendered(text):
    checked = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
