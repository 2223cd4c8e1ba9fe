# SPDX-License-Identifier: Apache-2.0
"""Whatever users write, HAProxy reads it as one word or never sees it."""

import ipaddress
import shlex
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.render import haproxy, nftables
from statera.render.haproxy import Machine
from statera.render.text import name, quote
from statera.wire import (
    Address,
    Interface,
    ListenerSpec,
    MemberSpec,
    MonitorSpec,
    PersistenceSpec,
    PoolSpec,
    Spec,
)

MACHINE = Machine(run="/run/statera/x", chroot="/")
NASTY = [
    "' server x 1.2.3.4:5", "a b", "\\", '"', "$HOME", "${HOME}", "%[src]", "#", "a\\' b", "%", "it's", "é", "x" * 3000]
TEXT = st.text() | st.sampled_from(NASTY)
CHARACTERS = st.characters(min_codepoint=32, max_codepoint=0x2FF).filter(str.isprintable)
PRINTABLE = st.text(CHARACTERS) | st.sampled_from(NASTY)
TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,9}", fullmatch=True)


@pytest.mark.parametrize("bad", ["", "a b", "a;b", "a/b", "a\nb", "é"])
def test_an_id_that_is_none_is_refused(bad):
    with pytest.raises(GiveUp, match="cannot be put into"):
        name(bad)


def spec_of(**text):
    """A spec with every text that a user can write; what is not given is harmless."""
    given_text = {
        "address": "10.0.0.2", "monitor_address": "10.0.0.3", "http_method": "GET", "url_path": "/",
        "expected_codes": "200", "domain_name": "example", "cookie_name": "SESSION", "header": "X-Forwarded-For",
        "value": "true", "protocol": "HTTP", "algorithm": "ROUND_ROBIN", "persistence": "APP_COOKIE", **text,
    }
    return with_text(**given_text)


def with_text(*, address, monitor_address, http_method, url_path, expected_codes, domain_name, cookie_name, header,
              value, protocol, algorithm, persistence):
    monitor = MonitorSpec(
        type="HTTP", delay=5, timeout=5, max_retries=3, http_method=http_method, url_path=url_path,
        expected_codes=expected_codes, http_version=1.1, domain_name=domain_name)
    member = MemberSpec(id="m", address=address, protocol_port=80, monitor_address=monitor_address)
    pool = PoolSpec(
        id="p", protocol=protocol, lb_algorithm=algorithm, members=(member,), monitor=monitor,
        session_persistence=PersistenceSpec(type=persistence, cookie_name=cookie_name))
    listener = ListenerSpec(id="l", protocol="HTTP", protocol_port=80, default_pool_id="p",
                            insert_headers={header: value})
    leg = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))
    return Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(leg,),
                vips=(Address(ip="10.0.0.9", prefix=24),), listeners=(listener,), pools=(pool,))


HARMLESS = haproxy.render(spec_of(), MACHINE)


@given(TEXT)
def test_a_quoted_word_is_one_word_and_means_itself(text):
    try:
        word = quote(text)
    except GiveUp:
        assert not text.isprintable()
    else:
        assert "\n" not in word
        assert shlex.split(word) == [text]


FIELDS = ["address", "monitor_address", "http_method", "url_path", "expected_codes", "domain_name", "cookie_name",
          "header", "value", "protocol", "algorithm", "persistence"]


@given(field=st.sampled_from(FIELDS), text=TEXT)
@example(field="cookie_name", text="A\nserver x 1.2.3.4:5")
@example(field="expected_codes", text="200\n")
@example(field="address", text="10.0.0.1 disabled")
def test_no_text_adds_a_line_or_a_word(field, text):
    try:
        rendered = haproxy.render(spec_of(**{field: text}), MACHINE)
    except GiveUp:
        return
    if field in ("value", "header") or text == "":
        return
    words = [len(shlex.split(line)) for line in rendered.splitlines()]
    assert words == [len(shlex.split(line)) for line in HARMLESS.splitlines()]


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(url_path=PRINTABLE, domain_name=PRINTABLE, cookie_name=TOKEN)
@example(url_path=NASTY[0], domain_name="%[src] %%", cookie_name="$'%#")
@example(url_path="x" * 3000, domain_name="\\ ' \" ${HOME}", cookie_name="a")
def test_haproxy_accepts_whatever_is_rendered(tmp_path, url_path, domain_name, cookie_name):
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy.render(
        spec_of(url_path=url_path, domain_name=domain_name, cookie_name=cookie_name), MACHINE))
    checked = subprocess.run(["haproxy", "-c", "-f", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@given(st.lists(TEXT | st.sampled_from(["10.0.0.0/8", "fd00::/8"]), min_size=1, max_size=3))
def test_a_filter_takes_networks_only(cidrs):
    listener = ListenerSpec(id="l", protocol="HTTP", protocol_port=80, allowed_cidrs=tuple(cidrs))
    try:
        rendered = nftables.render(replace(spec_of(), listeners=(listener,)))
    except GiveUp:
        return
    assert len(rendered.splitlines()) == 8
    assert all(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
