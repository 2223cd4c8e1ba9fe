# SPDX-License-Identifier: Apache-2.0
"""Which changes of L7 policies are commands, and which need a reload."""

import pytest
from msgspec.structs import replace

from statera.agent.apply import Running, changes
from statera.agent.l7 import word
from statera.model.fleet import Role
from statera.render.haproxy import Machine
from statera.wire import Address, Interface, L7PolicySpec, L7RuleSpec, ListenerSpec, MemberSpec, PoolSpec, Spec

MACHINE = Machine(run="/run/x", chroot="/")
RULE = L7RuleSpec(id="r", type="PATH", compare_type="EQUAL_TO", value="/a")
OTHER = L7RuleSpec(id="o", type="HEADER", compare_type="REGEX", value="^a", key="X-A")
DENY = L7PolicySpec(id="deny", action="REJECT", rules=(RULE,))
SEND = L7PolicySpec(id="send", action="REDIRECT_TO_POOL", redirect_pool_id="q", rules=(OTHER,))
POOLS = tuple(
    PoolSpec(id=id, protocol="HTTP", lb_algorithm="ROUND_ROBIN",
             members=(MemberSpec(id=f"{id}1", address="10.0.0.11", protocol_port=80),)) for id in ("p", "q"))
LEG = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))


def spec(*policies):
    listener = ListenerSpec(
        id="web", protocol="HTTP", protocol_port=80, default_pool_id="p", l7policies=policies,
        redirect_pool_ids=tuple({policy.redirect_pool_id for policy in policies if policy.redirect_pool_id}))
    used = {"p", *listener.redirect_pool_ids}
    return Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(LEG,),
                vips=(Address(ip="10.0.0.9", prefix=24),), listeners=(listener,),
                pools=tuple(pool for pool in POOLS if pool.id in used))


def plan(old, *policies):
    return changes(Running(applied=old, loaded=old), replace(spec(*policies), version=2), MACHINE)


BOTH = spec(DENY, SEND)


@pytest.mark.parametrize(("policies", "commands"), [
    pytest.param((DENY, SEND), (), id="nothing changed"),
    pytest.param((replace(DENY, rules=(replace(RULE, value="/b c"),)), SEND),
                 (r"add acl l7/r /b\ c", "del acl l7/r /a"), id="value: the new one is there before the old one goes"),
    pytest.param((replace(DENY, action="REDIRECT_TO_URL", redirect_url="http://x/;"), SEND),
                 (r"set map l7/web.map deny location\ 302\ http://x/\;",), id="action"),
    pytest.param((replace(DENY, action="REDIRECT_TO_POOL", redirect_pool_id="q"), SEND),
                 (r"set map l7/web.map deny pool\ q:web",), id="another pool that is in use"),
    pytest.param((SEND,), ("del map l7/web.map deny",), id="policy gone"),
    pytest.param((DENY,), ("del map l7/web.map send", "set server q:web/q1 state maint"),
                 id="members rest after their policy has gone"),
    pytest.param((DENY, replace(SEND, redirect_pool_id="p")),
                 (r"set map l7/web.map send pool\ p:web", "set server q:web/q1 state maint"),
                 id="members rest after their policy sends elsewhere"),
])
def test_what_is_live_is_commanded(policies, commands):
    assert plan(BOTH, *policies).commands == commands


@pytest.mark.parametrize("policies", [
    pytest.param((SEND, DENY), id="position"),
    pytest.param((DENY, SEND, replace(DENY, id="new", rules=(replace(RULE, id="n"),))), id="new policy"),
    pytest.param((DENY, replace(SEND, rules=(OTHER, replace(RULE, id="n")))), id="new rule"),
    pytest.param((DENY, replace(SEND, rules=(replace(OTHER, invert=True),))), id="invert"),
    pytest.param((DENY, replace(SEND, rules=(replace(OTHER, key="X-B"),))), id="key"),
    pytest.param((DENY, replace(SEND, rules=(replace(OTHER, type="COOKIE"),))), id="type"),
    pytest.param((DENY, replace(SEND, rules=(replace(OTHER, compare_type="CONTAINS"),))), id="comparison"),
    pytest.param((replace(DENY, rules=(replace(RULE, value='" a"'),)), SEND), id="value that only a regex can say"),
])
def test_what_is_not_live_is_reloaded(policies):
    assert plan(BOTH, *policies).how == "reload"


def test_a_policy_that_rests_is_woken_at_its_place_after_its_members():
    asleep = plan(BOTH, DENY)
    assert [policy.enabled for policy in asleep.running.loaded.listeners[0].l7policies] == [True, False]
    woken = changes(asleep.running, replace(BOTH, version=3), MACHINE)
    assert woken.commands == ("set server q:web/q1 state ready", r"add map l7/web.map send pool\ q:web")
    behind = changes(asleep.running, replace(spec(SEND, DENY), version=3), MACHINE)
    assert behind.how == "reload"


@pytest.mark.parametrize(("value", "is_unsure"), [
    pytest.param("^a", False, id="the same regex"), pytest.param("^b", True, id="another regex")])
def test_haproxy_is_asked_before_a_new_regex_takes_an_old_ones_place(value, is_unsure):
    assert plan(BOTH, DENY, replace(SEND, rules=(replace(OTHER, value=value),))).is_unsure == is_unsure


def test_the_files_are_those_of_the_policies_that_remain():
    assert plan(BOTH, SEND).files == {"o": " ^a\n", "web.map": "send pool q:web\n"}


@pytest.mark.parametrize(("text", "written"), [
    pytest.param("a b\t", "a\\ b\\\t", id="blanks"), pytest.param("a;b", r"a\;b", id="end of a command"),
    pytest.param("<<", r"\<\<", id="payload"), pytest.param("\\s", r"\\s", id="backslash")])
def test_a_word_of_a_command(text, written):
    assert word(text) == written
