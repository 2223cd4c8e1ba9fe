# SPDX-License-Identifier: Apache-2.0
"""The rules by themselves: redirects, positions, protocols."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statera.api import rules
from statera.api.rules import l7
from statera.config import ApiSettings
from statera.errors import ApiError


@pytest.mark.parametrize(("given_values", "action", "code"), [
    pytest.param({"action": "REJECT", "redirect_http_code": 301}, "REJECT", 301, id="reject keeps a given code"),
    pytest.param({"action": "REJECT", "redirect_url": "u"}, "REJECT", None, id="reject drops the url"),
    pytest.param({"action": "REJECT", "redirect_prefix": "p"}, "REDIRECT_PREFIX", 302, id="a prefix beats reject"),
    pytest.param({"action": "REDIRECT_PREFIX", "redirect_prefix": "p", "redirect_url": "u"}, "REDIRECT_TO_URL", 302,
                 id="a url beats the prefix"),
    pytest.param({"action": "REDIRECT_TO_URL", "redirect_url": "u", "redirect_http_code": 307}, "REDIRECT_TO_URL", 307,
                 id="a given code stays"),
    pytest.param({"action": "REDIRECT_TO_POOL", "redirect_pool_id": "x", "redirect_http_code": 307},
                 "REDIRECT_TO_POOL", None, id="pools have no code"),
])
def test_where_a_new_policy_leads(given_values, action, code):
    policy = l7.redirect(given_values, fresh=True)
    assert (policy["action"], policy.get("redirect_http_code")) == (action, code)


@pytest.mark.parametrize(("sent", "after"), [
    pytest.param({"redirect_url": "u"}, {"redirect_url": "u", "redirect_pool_id": None, "redirect_prefix": None,
                                         "action": "REDIRECT_TO_URL", "redirect_http_code": 302}, id="a target alone"),
    pytest.param({"redirect_http_code": 307}, {"redirect_http_code": 307}, id="a code alone"),
    pytest.param({"action": "REJECT"}, {"action": "REJECT", "redirect_url": None, "redirect_pool_id": None,
                                        "redirect_prefix": None, "redirect_http_code": None}, id="reject clears all"),
])
def test_where_a_changed_policy_leads(sent, after):
    assert l7.redirect(sent, fresh=False) == after


def test_a_pool_and_a_url_exclude_each_other():
    with pytest.raises(ApiError, match="Cannot specify redirect_pool_id and redirect_url or redirect_prefix"):
        l7.redirect({"redirect_pool_id": "x", "redirect_url": "u"}, fresh=False)


@given(st.lists(st.uuids().map(str), unique=True), st.none() | st.integers(1, 20), st.booleans())
def test_positions_keep_everybody_and_the_others_order(order, position, is_new):
    id = "new" if is_new or not order else order[0]
    after = l7.inserted(order, id, position)
    assert sorted(after) == sorted({*order, id})
    assert [each for each in after if each != id] == [each for each in order if each != id]
    assert after.index(id) == min(position - 1, len(after) - 1) if position else after[-1] == id


@pytest.mark.parametrize(("listener", "pool", "fits"), [
    ("TCP", "HTTP", True), ("HTTP", "TCP", False), ("HTTPS", "TCP", True), ("UDP", "TCP", False),
    ("SCTP", "SCTP", True), ("PROMETHEUS", "HTTP", False), ("TERMINATED_HTTPS", "HTTPS", False),
])
def test_pools_fit_listeners(listener, pool, fits):
    if fits:
        rules.match(listener, pool)
    else:
        with pytest.raises(ApiError, match=f"The pool protocol '{pool}' is invalid"):
            rules.match(listener, pool)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:7", "::FFFF:7"])
def test_reserved_addresses_are_refused_however_spelt(address):
    with pytest.raises(ApiError, match="is not a valid option for member address"):
        rules.reserved(address, ["169.254.169.254", "0:0:0:0:0:0:ffff:7"])


@pytest.mark.parametrize(("options", "said"), [
    pytest.param({}, [], id="as shipped"),
    pytest.param({"minimum_tls_version": "TLSv1.3"}, [
        "default_listener_tls_versions: Validation failure: Requested TLS versions are less than the minimum: "
        "TLSv1.2 < TLSv1.3",
        "default_pool_tls_versions: Validation failure: Requested TLS versions are less than the minimum: "
        "TLSv1.2 < TLSv1.3"], id="older than the minimum"),
    pytest.param({"default_pool_ciphers": "RC4-MD5", "tls_cipher_prohibit_list": "RC4-MD5:RC4-SHA"}, [
        "default_pool_ciphers: Validation failure: The following ciphers have been prohibited by an administrator: "
        "RC4-MD5"], id="a prohibited cipher"),
    pytest.param({"minimum_tls_version": "TLS1"}, [
        "minimum_tls_version = TLS1 is not one of SSLv3, TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"], id="a misspelt minimum"),
])
def test_an_operators_tls_defaults_keep_the_rules_that_users_keep(options, said):
    assert rules.bad_defaults(ApiSettings(**options)) == said
