# SPDX-License-Identifier: Apache-2.0
"""Random text in every field that users write: what is not refused HAProxy reads, in as many words as ever."""

import random
import shlex
import shutil
import subprocess

import pytest
from msgspec.structs import replace

from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.render import haproxy, l7
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

MACHINE = Machine(run="/run/statera/x", chroot="/")
LEG = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))
EMPTY = Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(LEG,),
             vips=(Address(ip="10.0.0.9", prefix=24),))
FIELDS = {
    "url_path": "/", "domain_name": "example", "cookie_name": "SESSION", "expected_codes": "200", "http_method": "GET",
    "header": "X-Real-IP", "address": "10.0.0.2", "monitor_address": "10.0.0.3", "rule": "x", "key": "X-Key",
    "redirect_url": "http://a", "redirect_prefix": "http://b"}
COUNT = 400


def spec_of(number, text):
    """One listener, its pool and a policy, with these texts."""
    monitor = MonitorSpec(
        type="HTTP", delay=5, timeout=5, max_retries=3, http_version=1.1,
        **{name: text[name] for name in ("url_path", "domain_name", "expected_codes", "http_method")})
    member = MemberSpec(id="m", address=text["address"], protocol_port=80, monitor_address=text["monitor_address"])
    pool = PoolSpec(id=f"p{number}", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(member,), monitor=monitor,
                    session_persistence=PersistenceSpec(type="APP_COOKIE", cookie_name=text["cookie_name"]))
    rules = tuple(
        L7RuleSpec(id=f"r{number}-{compare}", type="HEADER", compare_type=compare, value=text["rule"], key=text["key"])
        for compare in ("EQUAL_TO", "CONTAINS"))
    policies = tuple(
        L7PolicySpec(id=f"{action}{number}", action=action, rules=rules[which:which + 1],
                     **{action.replace("REDIRECT_TO", "REDIRECT").lower(): text[field]})
        for which, (action, field) in enumerate(
            (("REDIRECT_TO_URL", "redirect_url"), ("REDIRECT_PREFIX", "redirect_prefix"))))
    listener = ListenerSpec(
        id=f"l{number}", protocol="HTTP", protocol_port=1000 + number, default_pool_id=pool.id,
        insert_headers={text["header"]: "true"}, l7policies=policies)
    return replace(EMPTY, listeners=(listener,), pools=(pool,))


def words(spec):
    """How many words each line about the listener has, and its files as lines."""
    lines = [len(shlex.split(line)) for line in haproxy.render(spec, MACHINE).splitlines()]
    return lines, [text.count("\n") for text in l7.files(spec).values()]


def junk(dice):
    kinds = (
        lambda: dice.randbytes(dice.randint(1, 40)).decode("latin-1"),
        lambda: dice.randbytes(dice.randint(1, 40)).decode(errors="replace"),
        lambda: "".join(chr(dice.randrange(0x20, 0x3000)) for _ in range(dice.randint(1, 40))),
        lambda: "".join(dice.choices("'\"\\ #%[]{}$;<>()=/ab\t", k=dice.randint(1, 40))),
        lambda: "".join(dice.choices("!#$%&'*+.^_`|~-aZ9", k=dice.randint(1, 40))))
    return dice.choice(kinds)()


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
def test_what_is_not_refused_is_read_and_means_no_more_than_it_should(tmp_path):
    seed = random.randrange(10**6)
    dice, accepted = random.Random(seed), []
    for number in range(COUNT):
        field = dice.choice([*FIELDS])
        made = spec_of(number, FIELDS | {field: junk(dice)})
        try:
            found = words(made)
        except GiveUp:
            continue
        plain = words(spec_of(number, FIELDS))
        # An equality with blanks in front is compared another way, by as many words.
        assert found == plain, f"seed {seed}: {field}"
        accepted.append(made)
    assert COUNT // 5 < len(accepted) < COUNT
    whole = replace(EMPTY, listeners=tuple(one.listeners[0] for one in accepted),
                    pools=tuple(one.pools[0] for one in accepted))
    (tmp_path / l7.FOLDER).mkdir()
    for name, text in l7.files(whole).items():
        (tmp_path / l7.FOLDER / name).write_text(text)
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy.render(whole, MACHINE))
    checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, ""), f"seed {seed}"
