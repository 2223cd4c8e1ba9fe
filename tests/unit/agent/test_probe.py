# SPDX-License-Identifier: Apache-2.0
"""From HAProxy's table to what is reported."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from statera.agent import probe, runtime
from statera.agent.probe import news
from statera.agent.tally import Tally
from statera.model.fleet import Role
from statera.wire import Counters, ListenerSpec, MemberSpec, PoolSpec, Report, Spec

SPEC = Spec(
    amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(), vips=(),
    listeners=(ListenerSpec(id="web", protocol="HTTP", protocol_port=80, default_pool_id="pool"),
               ListenerSpec(id="alt", protocol="HTTP", protocol_port=81, default_pool_id="pool")),
    pools=(PoolSpec(id="pool", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(
        MemberSpec(id="one", address="10.0.0.1", protocol_port=80),
        MemberSpec(id="two", address="10.0.0.2", protocol_port=80))),))

TABLE = """\
# pxname,svname,status,type,scur,slim,bin,bout,stot,ereq
web,FRONTEND,OPEN,0,3,100,10,20,30,1
alt,FRONTEND,OPEN,0,100,100,1,2,3,0
asleep,FRONTEND,STOP,0,0,100,1,2,3,0
pool:web,one,UP,2,0,,0,0,0,
pool:web,two,DOWN 1/2,2,0,,0,0,0,
pool:web,left,MAINT,2,0,,0,0,0,
pool:web,BACKEND,UP,1,0,10,0,0,0,
pool:alt,one,no check,2,0,,0,0,0,
pool:alt,two,UP,2,0,,0,0,0,
pool:alt,BACKEND,DOWN,1,0,10,0,0,0,
"""


def test_words_are_those_of_the_worst_and_of_nobody_else():
    assert probe.words(SPEC, runtime.rows(TABLE), vrrp=None) == Report(
        amphora_id="a", full=True, listeners={"web": "OPEN", "alt": "FULL"}, pools={"pool": "DOWN"},
        members={"one": "UP", "two": "DOWN 1/2"})


def test_only_news_is_said():
    said = Report(amphora_id="a", full=True, listeners={"web": "OPEN"}, members={"one": "UP", "two": "UP"})
    assert news(None, said) == said
    assert news(said, said) is None
    down = replace(said, members={"one": "UP", "two": "DOWN"})
    assert news(said, down) == Report(amphora_id="a", members={"two": "DOWN"})
    assert news(said, replace(said, members={"one": "UP"})) == replace(said, members={"one": "UP"})
    assert news(said, replace(said, vrrp="MASTER")) == Report(amphora_id="a", vrrp="MASTER")


def counted(total):
    return {"web": Counters(total_connections=total, active_connections=1)}


def test_a_tally_adds_up_all_workers():
    tally = Tally()
    tally.count(1, counted(10))
    tally.count(2, counted(3))
    assert tally.totals(["web"]) == {"web": Counters(total_connections=13, active_connections=2)}
    tally.bury(1)
    assert tally.totals(["web"]) == {"web": Counters(total_connections=13, active_connections=1)}
    assert tally.totals(["new"]) == {"new": Counters()}


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 20), st.booleans())))
def test_a_tally_never_falls(steps):
    tally, before = Tally(), 0
    for worker, total, dies in steps:
        tally.count(worker, counted(total))
        if dies:
            tally.bury(worker)
        now = tally.totals(["web"])["web"].total_connections
        assert now >= before
        before = now
