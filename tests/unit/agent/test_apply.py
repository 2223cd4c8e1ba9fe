# SPDX-License-Identifier: Apache-2.0
"""The least disturbing way from one spec to the next, and that it leads to where a reload would."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from statera.agent.apply import Running, changes, limit_of
from statera.model.fleet import Role
from statera.render import l7
from statera.render.backends import backend_name, backends
from statera.render.haproxy import Machine
from statera.wire import (
    Address,
    Interface,
    L7PolicySpec,
    L7RuleSpec,
    ListenerSpec,
    MemberSpec,
    MonitorSpec,
    PersistenceSpec,
    PoolSpec,
    Spec,
)

MACHINE = Machine(run="/run/x", chroot="/")
ONE = MemberSpec(id="one", address="10.0.0.11", protocol_port=80)
TWO = MemberSpec(id="two", address="10.0.0.12", protocol_port=80)
POOL = PoolSpec(id="pool", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(ONE,))
MONITORED = replace(POOL, monitor=MonitorSpec(type="TCP", delay=5, timeout=5, max_retries=3))
LISTENER = ListenerSpec(id="web", protocol="HTTP", protocol_port=80, default_pool_id="pool")
OTHER = ListenerSpec(id="other", protocol="HTTP", protocol_port=81, default_pool_id="pool")
LEG = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))
SPEC = Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(LEG,),
            vips=(Address(ip="10.0.0.9", prefix=24),), listeners=(LISTENER,), pools=(POOL,))


def pooled(pool, **changed):
    return replace(SPEC, pools=(replace(pool, **changed),))


def plan(old, new):
    return changes(Running(applied=old, loaded=old), replace(new, version=2), MACHINE)


@pytest.mark.parametrize(("old", "new", "commands"), [
    pytest.param(SPEC, SPEC, (), id="nothing changed"),
    pytest.param(SPEC, pooled(POOL, members=(ONE, TWO)), (
        "add server pool:web/two 10.0.0.12:80 id 298486375 weight 1 pool-max-conn -1 pool-purge-delay 5s",
        "enable server pool:web/two"), id="member added"),
    pytest.param(pooled(MONITORED), pooled(MONITORED, members=(ONE, replace(TWO, enabled=False))), (
        "add server pool:web/two 10.0.0.12:80 id 298486375 weight 1 pool-max-conn -1 pool-purge-delay 5s"
        " check inter 5s fall 3 rise 3", "enable health pool:web/two"), id="disabled member added, monitored"),
    pytest.param(pooled(POOL, members=(ONE, TWO)), SPEC, ("set server pool:web/two state maint",), id="member removed"),
    pytest.param(SPEC, pooled(POOL, members=(TWO,)), (
        "add server pool:web/two 10.0.0.12:80 id 298486375 weight 1 pool-max-conn -1 pool-purge-delay 5s",
        "enable server pool:web/two", "set server pool:web/one state maint"), id="replaced: the new one first"),
    pytest.param(SPEC, pooled(POOL, members=(replace(ONE, weight=9),)), ("set server pool:web/one weight 9",),
                 id="weight"),
    pytest.param(SPEC, pooled(POOL, members=(replace(ONE, enabled=False),)), ("set server pool:web/one state maint",),
                 id="member disabled"),
    pytest.param(pooled(POOL, members=(replace(ONE, enabled=False),)), SPEC, ("set server pool:web/one state ready",),
                 id="member enabled"),
    pytest.param(pooled(MONITORED), pooled(MONITORED, members=(replace(ONE, monitor_port=99),)),
                 ("set server pool:web/one check-addr 10.0.0.11 port 99",), id="monitor port"),
    pytest.param(SPEC, pooled(POOL, members=(replace(ONE, monitor_port=99),)), (), id="monitor port, not monitored"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, connection_limit=5),)),
                 ("set maxconn frontend web 5",), id="connection limit"),
    pytest.param(SPEC, replace(SPEC, listeners=(), pools=()),
                 ("disable frontend web", "set server pool:web/one state maint"), id="listener removed"),
    pytest.param(SPEC, replace(SPEC, enabled=False),
                 ("disable frontend web", "set server pool:web/one state maint"), id="load balancer disabled"),
    pytest.param(replace(SPEC, listeners=(LISTENER, OTHER)), SPEC, ("disable frontend other",), id="one of two gone"),
    pytest.param(SPEC, replace(SPEC, role=Role.BACKUP), (), id="role"),
])
def test_what_is_live_is_commanded(old, new, commands):
    made = plan(old, new)
    assert made.how == ("runtime" if commands else "nothing")
    assert made.commands == commands


@pytest.mark.parametrize(("old", "new"), [
    pytest.param(SPEC, replace(SPEC, listeners=(LISTENER, OTHER)), id="listener added"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, protocol_port=8080),)), id="port"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, connection_limit=60_000),)), id="more than fits"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, timeout_client_data=1),)), id="timeout"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, default_pool_id=None),)), id="pool taken away"),
    pytest.param(SPEC, replace(SPEC, listeners=(replace(LISTENER, insert_headers={"X-Real-IP": "true"}),)),
                 id="inserted header"),
    pytest.param(SPEC, replace(SPEC, vips=(Address(ip="10.0.0.8", prefix=24),)), id="VIP"),
    pytest.param(SPEC, pooled(MONITORED), id="monitor added"),
    pytest.param(pooled(MONITORED), pooled(MONITORED, monitor=replace(MONITORED.monitor, delay=6)), id="delay"),
    pytest.param(SPEC, pooled(POOL, lb_algorithm="SOURCE_IP"), id="algorithm"),
    pytest.param(SPEC, pooled(POOL, protocol="PROXY"), id="pool protocol"),
    pytest.param(SPEC, pooled(POOL, members=(replace(ONE, backup=True),)), id="backup flag"),
    pytest.param(SPEC, pooled(POOL, session_persistence=PersistenceSpec(type="SOURCE_IP")), id="persistence"),
])
def test_what_is_not_live_is_reloaded(old, new):
    assert plan(old, new).how == "reload"


def test_without_a_haproxy_one_is_started():
    assert changes(None, SPEC, MACHINE).how == "start"


def test_a_listener_that_sleeps_is_woken_with_what_has_changed_meanwhile():
    asleep = plan(SPEC, replace(SPEC, listeners=(), pools=()))
    woken = changes(asleep.running, replace(pooled(POOL, members=(ONE, TWO)), version=3), MACHINE)
    assert woken.commands[0] == "enable frontend web"
    assert "set server pool:web/one state ready" in woken.commands
    assert "enable server pool:web/two" in woken.commands


class Model:
    """What HAProxy makes of a file and of commands, as far as they go."""

    def __init__(self, spec):
        self.open = {listener.id for listener in spec.listeners}
        self.limits = {listener.id: limit_of(listener, MACHINE) for listener in spec.listeners}
        self.servers = {
            (backend_name(pool.id, listener), member.id): self.server(pool, member)
            for listener, pool in backends(spec) for member in pool.members}
        self.defaults = {listener.id: f"{listener.default_pool_id}:{listener.id}" for listener in spec.listeners}
        self.patterns = {file: {made.pattern} for file, made in l7.tests(spec).items()}
        self.verdicts = l7.verdicts(spec)

    @staticmethod
    def server(pool, member):
        at = (member.monitor_address or member.address, member.monitor_port or member.protocol_port)
        return {"at": (member.address, member.protocol_port), "weight": member.weight, "on": member.enabled,
                "check": at if pool.monitor else None, "backup": member.backup}

    def obey(self, command):
        match [re.sub(r"\\(.)", r"\1", word) for word in re.split(r"(?<!\\)\s", command)]:
            case ["enable", "frontend", name]:
                self.open.add(name)
            case ["disable", "frontend", name]:
                self.open.remove(name)
            case ["set", "maxconn", "frontend", name, limit]:
                self.limits[name] = int(limit)
            case ["add", "server", name, at, *options]:
                assert self.key(name) not in self.servers
                self.servers[self.key(name)] = self.added(at, options)
            case ["enable", "server", name]:
                self.servers[self.key(name)]["on"] = True
            case ["set", "server", name, "weight", weight]:
                self.servers[self.key(name)]["weight"] = int(weight)
            case ["set", "server", name, "state", state]:
                self.servers[self.key(name)]["on"] = state == "ready"
            case ["set", "server", name, "addr", ip, "port", port]:
                self.servers[self.key(name)]["at"] = (ip, int(port))
            case ["set", "server", name, "check-addr", ip, "port", port]:
                self.servers[self.key(name)]["check"] = (ip, int(port))
            case ["enable", "health", name]:
                assert self.servers[self.key(name)]["check"]
            case ["enable", "dynamic-cookie", "backend", _]:
                pass
            case ["add", "acl", file, pattern]:
                self.patterns[file.removeprefix("l7/")].add(pattern)
            case ["del", "acl", file, pattern]:
                self.patterns[file.removeprefix("l7/")].remove(pattern)
            case ["add", "map", file, policy, verdict]:
                assert policy not in self.verdicts[file.removeprefix("l7/")]
                self.verdicts[file.removeprefix("l7/")][policy] = verdict
            case ["set", "map", file, policy, verdict]:
                assert policy in self.verdicts[file.removeprefix("l7/")]
                self.verdicts[file.removeprefix("l7/")][policy] = verdict
            case ["del", "map", file, policy]:
                del self.verdicts[file.removeprefix("l7/")][policy]
            case _:
                raise AssertionError(command)

    @staticmethod
    def key(name):
        return tuple(name.split("/"))

    @staticmethod
    def added(at, options):
        ip, port = at.rsplit(":", 1)
        named = dict(pairwise(options))
        check = (named.get("addr", ip), int(named.get("port", port))) if "check" in options else None
        return {"at": (ip, int(port)), "weight": int(named["weight"]), "on": False, "check": check,
                "backup": "backup" in options}

    def serves(self):
        """What clients can notice: listeners and policies that sleep, and servers out of reach or off do not count."""
        policies = {name: table for name in self.open if (table := self.verdicts.get(f"{name}.map"))}
        verdicts = [verdict for table in policies.values() for verdict in table.values()]
        within_reach = {*(verdict.removeprefix("pool ") for verdict in verdicts),
                        *(self.defaults[name] for name in self.open)}
        return (self.open, {name: self.limits[name] for name in self.open}, policies,
                {file: patterns for file, patterns in self.patterns.items()
                 if any(file.removeprefix("rule-") in table for table in policies.values())},
                {key: server for key, server in self.servers.items() if server["on"] and key[0] in within_reach})


MEMBERS = st.builds(
    MemberSpec, id=st.sampled_from("abcd"), address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    protocol_port=st.sampled_from([80, 81]), weight=st.integers(0, 3), enabled=st.booleans(),
    monitor_port=st.none() | st.just(99))
POOLS = st.builds(
    PoolSpec, id=st.sampled_from(["p", "q"]), protocol=st.just("HTTP"), lb_algorithm=st.just("ROUND_ROBIN"),
    members=st.lists(MEMBERS, unique_by=lambda member: member.id, max_size=3).map(tuple),
    monitor=st.none() | st.just(MONITORED.monitor))
POLICIES = st.builds(
    lambda value, **fields: L7PolicySpec(
        rules=(L7RuleSpec(id=f"rule-{fields['id']}", type="PATH", compare_type="EQUAL_TO", value=value),), **fields),
    value=st.sampled_from(["/a", "/b ;c"]), id=st.sampled_from(["u", "v"]), action=st.just("REJECT"))
SENDERS = st.builds(
    lambda policy, pool_id: replace(policy, action="REDIRECT_TO_POOL", redirect_pool_id=pool_id),
    POLICIES, st.sampled_from(["p", "q"]))
LISTENERS = st.builds(
    ListenerSpec, id=st.sampled_from("xy"), protocol=st.just("HTTP"), protocol_port=st.just(80),
    default_pool_id=st.sampled_from([None, "p", "q"]), connection_limit=st.sampled_from([-1, 5, 6]),
    l7policies=st.lists(POLICIES | SENDERS, unique_by=lambda policy: policy.id, max_size=2).map(tuple))


def whole(listeners, pools, enabled):
    """As a health manager would send it: each object once, nothing that leads nowhere."""
    known = {pool.id for pool in pools}
    taken = set()
    fit = []
    for listener in listeners:
        policies = [policy for policy in listener.l7policies if policy.id not in taken]
        policies = [policy for policy in policies if policy.redirect_pool_id in {None, *known}]
        taken |= {policy.id for policy in policies}
        aims = dict.fromkeys(policy.redirect_pool_id for policy in policies if policy.redirect_pool_id)
        default = listener.default_pool_id if listener.default_pool_id in known else None
        fit.append(replace(
            listener, default_pool_id=default, l7policies=tuple(policies), redirect_pool_ids=tuple(aims)))
    used = {id_ for listener in fit for id_ in (listener.default_pool_id, *listener.redirect_pool_ids)}
    return replace(SPEC, listeners=tuple(fit), pools=tuple(pool for pool in pools if pool.id in used), enabled=enabled)


SPECS = st.builds(
    whole, st.lists(LISTENERS, unique_by=lambda listener: listener.id, max_size=2).map(tuple),
    st.lists(POOLS, unique_by=lambda pool: pool.id, max_size=2).map(tuple), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(SPECS, min_size=2, max_size=6))
def test_commands_lead_to_where_a_reload_would(specs):
    running, model = None, None
    for version, spec in enumerate(specs):
        made = changes(running, replace(spec, version=version), MACHINE)
        if made.how in ("start", "reload"):
            model = Model(made.running.applied)
        for command in made.commands:
            model.obey(command)
        for server in made.leaving:
            assert not model.servers.pop(Model.key(server))["on"]
        assert model.serves() == Model(made.running.applied).serves()
        running = made.running


@given(SPECS)
def test_the_same_spec_again_changes_nothing(spec):
    first = changes(None, spec, MACHINE)
    assert changes(first.running, replace(spec, version=9), MACHINE).how == "nothing"
