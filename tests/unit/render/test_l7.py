# SPDX-License-Identifier: Apache-2.0
"""What users write into L7 policies stands in files, means itself there, and never reaches a line."""

import shlex
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.render import haproxy, l7
from statera.render.haproxy import Machine
from statera.wire import Address, Interface, L7PolicySpec, L7RuleSpec, ListenerSpec, PoolSpec, Spec

MACHINE = Machine(run="/run/statera/x", chroot="/")
KEYED = ("HEADER", "COOKIE", "SSL_DN_FIELD")
FREE = tuple(type for type in l7.FETCHES if type not in ("SSL_CONN_HAS_CERT", "SSL_VERIFY_RESULT"))


def rule(type="PATH", compare_type="EQUAL_TO", value="x", key=None):
    return L7RuleSpec(id="r", type=type, compare_type=compare_type, value=value, key=key)


def spec_of(*rules, **target):
    policy = L7PolicySpec(id="p", **{"action": "REJECT", "rules": rules or (rule(),), **target})
    pool = PoolSpec(id="pool", protocol="HTTP", lb_algorithm="ROUND_ROBIN")
    listener = ListenerSpec(id="web", protocol="HTTP", protocol_port=80, l7policies=(policy,),
                            redirect_pool_ids=("pool",))
    leg = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))
    return Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(leg,),
                vips=(Address(ip="10.0.0.9", prefix=24),), listeners=(listener,), pools=(pool,))


@pytest.mark.parametrize(("made", "method", "pattern"), [
    pytest.param(rule(value="/a b"), "str", "/a b", id="text"),
    pytest.param(rule(value='"a b"'), "str", "a b", id="quotes around blanks are not part of it"),
    pytest.param(rule(value='"a'), "str", '"a', id="half a quote is"),
    pytest.param(rule(value='"'), "str", '"', id="one quote alone"),
    pytest.param(rule(value="#a"), "str", "#a", id="no comment"),
    pytest.param(rule(value='" a.b"'), "reg", r"^\ a\.b$", id="a blank first"),
    pytest.param(rule("PATH", "STARTS_WITH", '" a"'), "reg", r"^\ a", id="starts with a blank"),
    pytest.param(rule("PATH", "ENDS_WITH", '" a"'), "reg", r"\ a$", id="ends with a blank"),
    pytest.param(rule("PATH", "CONTAINS", '""'), "reg", "(?:)", id="contains nothing"),
    pytest.param(rule("PATH", "EQUAL_TO", '""'), "reg", "^$", id="equal to nothing"),
    pytest.param(rule("PATH", "REGEX", " a|b"), "reg", "(?:) a|b", id="regex with a blank first"),
    pytest.param(rule("PATH", "REGEX", '"a"'), "reg", '"a"', id="regex with quotes"),
    pytest.param(rule("PATH", "REGEX", r"\\N\\1\101"), "reg", r"\\N\\1\101", id="regex with backslashes of its own"),
    pytest.param(rule("FILE_TYPE", "EQUAL_TO", "jpg"), "end", ".jpg", id="file type"),
    pytest.param(rule("FILE_TYPE", "EQUAL_TO", ".jpg"), "end", ".jpg", id="file type with its dot"),
    pytest.param(rule("SSL_VERIFY_RESULT", value="007"), "int", "7", id="number"),
    pytest.param(rule("SSL_VERIFY_RESULT", value="9" * 255), "int", "2147483647", id="number beyond all results"),
    pytest.param(rule("SSL_CONN_HAS_CERT", value="True"), "bool", None, id="yes or no"),
])
def test_a_pattern_means_what_its_rule_says(made, method, pattern):
    test = l7.test(made)
    assert (test.method, test.pattern) == (method, pattern)


@pytest.mark.parametrize("spec", [
    *(pytest.param(spec_of(rule(type, "REGEX", f"a{character}b", key="k")), id=f"{character!r} in {type}")
      for type in FREE for character in "\n\r\0\x1b\x7f"),
    *(pytest.param(spec_of(rule(type, key=key)), id=f"{key!r} in {type}")
      for type in KEYED for key in (None, "", "a b", 'a"', "a)", "a,b", "a\n", "é")),
    *(pytest.param(spec_of(rule("PATH", "REGEX", regex)), id=regex)
      for regex in (r"(.)\1", r"\N{BULLET}", r"\\\u0061", r"\U00000061")),
    pytest.param(spec_of(rule("SSL_VERIFY_RESULT", value="1 or 2")), id="no number"),
    pytest.param(spec_of(rule("PATH", "LIKES", "x")), id="comparison"),
    pytest.param(spec_of(rule("WEATHER")), id="type"),
    pytest.param(spec_of(action="REDIRECT_TO_URL", redirect_url="http://a\nb"), id="URL"),
    pytest.param(spec_of(action="REDIRECT_PREFIX", redirect_prefix="http://a\rb"), id="prefix"),
    pytest.param(spec_of(action="REDIRECT_PREFIX", redirect_prefix="/", redirect_http_code=200), id="code"),
    pytest.param(spec_of(action="REDIRECT_TO_POOL", redirect_pool_id="a b"), id="pool"),
    pytest.param(spec_of(action="JUMP"), id="action"),
])
def test_what_no_file_can_hold_is_refused(spec):
    with pytest.raises(GiveUp, match="cannot be put into"):
        haproxy.render(spec, MACHINE) + str(l7.files(spec))


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=255) | st.sampled_from(
    ["#", " # x", '"', "' server", "\\", "${HOME}", "%[src]", "-f /etc/passwd", "deny", "} if TRUE", "\t x", "é" * 255])
TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}", fullmatch=True)
RULES = st.builds(
    rule, st.sampled_from(FREE), st.sampled_from([name for name in l7.METHODS if name != "REGEX"]), TEXT, TOKEN)
TARGETS = st.fixed_dictionaries({
    "action": st.sampled_from(["REJECT", "REDIRECT_TO_URL", "REDIRECT_PREFIX"]), "redirect_url": TEXT,
    "redirect_prefix": TEXT, "redirect_http_code": st.sampled_from(l7.CODES)})
EXAMPLE = {"action": "REDIRECT_TO_URL", "redirect_url": "#", "redirect_prefix": "", "redirect_http_code": 302}


@given(RULES, TEXT, TARGETS)
def test_values_do_not_reach_the_lines(one, value, target):
    other = replace(one, value=value)
    assume(l7.test(one).method == l7.test(other).method)
    assert haproxy.render(spec_of(one, **target), MACHINE) == haproxy.render(spec_of(other), MACHINE)


@given(RULES, TARGETS)
def test_a_line_has_the_words_that_it_has_without_user_text(made, target):
    lines = list(l7.lines(spec_of(made, **target).listeners[0]))
    assert [len(shlex.split(line)) for line in lines[:2]] in ([7, 10], [8, 10])
    assert lines[2:] == list(l7.lines(spec_of().listeners[0]))[2:]


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RULES, TARGETS)
@example(rule("HEADER", "EQUAL_TO", "# }", "!#$%&'*+.^_`|~"), EXAMPLE)
@example(rule("COOKIE", "CONTAINS", "\t\"' \\", "'"), EXAMPLE)
@example(rule("FILE_TYPE", "REGEX", "^(jpe?g|png)$"), EXAMPLE)
def test_haproxy_accepts_whatever_is_rendered(tmp_path, made, target):
    spec = spec_of(made, **target)
    (tmp_path / l7.FOLDER).mkdir(exist_ok=True)
    for name, text in l7.files(spec).items():
        (tmp_path / l7.FOLDER / name).write_text(text)
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy.render(spec, MACHINE))
    checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
