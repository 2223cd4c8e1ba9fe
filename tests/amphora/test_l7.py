# SPDX-License-Identifier: Apache-2.0
"""L7 policies with traffic: what each rule is true of, what each action does, which policy decides."""

import hashlib
import http.client
import itertools
import os
import signal
import ssl
import time

import pytest
from certificates import Authority
from msgspec.structs import replace

from statera.wire import L7PolicySpec, L7RuleSpec, PemFile, TlsSpec

NUMBERS = itertools.count(1)


def rule(type, compare_type, value, key=None, *, invert=False, id=None):
    return L7RuleSpec(id=id or f"rule-{next(NUMBERS)}", type=type, compare_type=compare_type, value=value, key=key,
                      invert=invert)


def policy(*rules, action="REJECT", id=None, **target):
    return L7PolicySpec(id=id or f"policy-{next(NUMBERS)}", action=action, rules=rules, **target)


def with_policies(spec, *policies, version=None):
    pools = tuple(dict.fromkeys(policy.redirect_pool_id for policy in policies if policy.redirect_pool_id))
    listener = replace(spec.listeners[0], l7policies=policies, redirect_pool_ids=pools)
    return replace(spec, version=version or spec.version + 1, listeners=(listener,))


def ask(lab, path="/", host="test", **headers):
    """The status, and where a redirect leads or which member answered."""
    connection = http.client.HTTPConnection(lab.vip, 80, timeout=2)
    try:
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": host, **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode()
        who = body.partition('"who": "')[2].partition('"')[0].rpartition(".")[2]
        return answer.status, answer.getheader("Location") or who
    finally:
        connection.close()


WORDS = (
    # type, key, how a request shows a text
    ("HOST_NAME", None, lambda text: {"host": text}),
    ("PATH", None, lambda text: {"path": text}),
    ("HEADER", "X-Word", lambda text: {"X_Word": text}),
    ("COOKIE", "word", lambda text: {"Cookie": f"other=1; word={text}; more=2"}),
)
COMPARISONS = (
    # compare type, value, texts that it is true of, texts that it is not true of
    ("EQUAL_TO", "/ab.example", ["/ab.example"], ["/ab.example/", "x/ab.example", "/AC.example"]),
    ("STARTS_WITH", "/ab", ["/ab", "/ab.example"], ["/a", "x/ab"]),
    ("ENDS_WITH", "b.ex", ["/ab.ex", "b.ex"], ["/ab.exe", "/b"]),
    ("CONTAINS", "b.e", ["/ab.ex", "b.e"], ["/abxe", "/b"]),
    ("REGEX", r"^/a+(b|c)\.e.?$", ["/aab.ex", "/ac.e"], ["/abxe", "x/ab.e"]),
    ("REGEX", "a.*z", ["/about-z", "/xazx"], ["/zba"]),
)
SPECIAL = (
    # rule without id and invert, requests that it is true of, requests that it is not true of
    (("HOST_NAME", "EQUAL_TO", "www.Example.org"),
     [{"host": "www.example.org"}, {"host": "WWW.example.org:8080"}], [{"host": "example.org"}]),
    (("HOST_NAME", "ENDS_WITH", ".org"), [{"host": "a.ORG:80"}], [{"host": "a.org.uk"}]),
    (("HOST_NAME", "REGEX", "^W{3}[.]"), [{"host": "www.a"}], [{"host": "ww.a"}]),
    (("PATH", "EQUAL_TO", "/Case"), [{"path": "/Case"}, {"path": "/Case?x=/case"}], [{"path": "/case"}]),
    (("HEADER", "CONTAINS", "#;<<", "X-Why"), [{"X_Why": "x#;<<y"}], [{"X_Why": "x;"}]),
    (("FILE_TYPE", "EQUAL_TO", "jpg"), [{"path": "/a.png/b.tar.jpg"}, {"path": "/.jpg?a=b.png"}],
     [{"path": "/xjpg"}, {"path": "/a.jpg/b"}, {"path": "/a.jpg.png"}, {"path": "/a?b.jpg"}]),
    (("FILE_TYPE", "EQUAL_TO", "tar.gz"), [{"path": "/a.tar.gz"}], [{"path": "/a.gz"}]),
    (("FILE_TYPE", "REGEX", "^(jpe?g|png)$"), [{"path": "/a.b/c.jpeg"}, {"path": "/x.y.png"}],
     [{"path": "/png"}, {"path": "/a.png/"}, {"path": "/a.jpg.x"}, {"path": "/a.b/png"}]),
    (("FILE_TYPE", "REGEX", "^$"), [{"path": "/"}, {"path": "/a.b/c"}], [{"path": "/a.b"}]),
    (("HEADER", "EQUAL_TO", "b", "X-List"), [{"X_List": "a, b,c"}, {"x_list": "b"}], [{"X_List": "a, bc"}, {}]),
    (("HEADER", "EQUAL_TO", '"two words; #1 \\ end"', "X-Why"), [{"X_Why": "two words; #1 \\ end"}],
     [{"X_Why": '"two words; #1 \\ end"'}, {"X_Why": "two words"}]),
    (("HEADER", "CONTAINS", '" b"', "X-Why"), [{"X_Why": "a b"}], [{"X_Why": "ab"}]),
    (("HEADER", "EQUAL_TO", "#", "X-Why"), [{"X_Why": "#"}], [{"X_Why": "x"}]),
    (("HEADER", "EQUAL_TO", "$1", "!#$%&'*+.^`|~"), [{"!#$%&'*+.^`|~": "$1"}], [{}]),
    (("COOKIE", "EQUAL_TO", "b", "a"), [{"Cookie": "a=b"}], [{"Cookie": "A=b"}, {"Cookie": "aa=b"}, {}]),
    (("PATH", "REGEX", r"^/\d{3}\s*;$"), [{"path": "/123;"}], [{"path": "/12;"}]),
    (("PATH", "REGEX", " |x"), [{"path": "/x"}], [{"path": "/y"}]),
    (("SSL_CONN_HAS_CERT", "EQUAL_TO", "True"), [], [{}]),
    (("SSL_VERIFY_RESULT", "EQUAL_TO", "0"), [], [{}]),
    (("SSL_DN_FIELD", "REGEX", ".*", "CN"), [], [{}]),
)


def table():
    for (type, key, show), (compare_type, value, good, bad) in itertools.product(WORDS, COMPARISONS):
        if type == "PATH":
            good, bad = ([text for text in texts if text.startswith("/")] for texts in (good, bad))
        if type == "HOST_NAME":
            yield ((type, compare_type, value, key), [show(text) for text in good], [show(text) for text in bad])
        else:
            yield ((type, compare_type, value, key), [show(text) for text in good],
                   [*map(show, bad), *([] if type == "PATH" else [{}])])
    yield from SPECIAL


@pytest.mark.carries("every rule type, comparison, key and invert", "HTTP listener")
def test_every_type_comparison_and_inversion_is_true_of_what_it_says(lab, node, serving):
    """Each case has a policy of its own, whose second rule asks for the case's name."""
    cases, policies = [], []
    for number, ((about, good, bad), invert) in enumerate(itertools.product(table(), (False, True))):
        mine = rule("HEADER", "EQUAL_TO", f"case-{number}", "X-Case")
        policies.append(policy(rule(*about, invert=invert), mine))
        cases += [(about, invert, {**request, "X_Case": f"case-{number}"}, fits is not invert)
                  for fits, requests in ((True, good), (False, bad)) for request in requests]
    applied = node.put(with_policies(serving, *policies))
    assert (applied.failure, applied.how) == (None, "reload")
    started = time.monotonic()
    wrong = [(about, invert, request) for about, invert, request, denied in cases
             if (ask(lab, **request)[0] == 403) != denied]
    print(f"\n{len(policies)} policies, {len(cases)} requests in {time.monotonic() - started:.1f} s")
    assert wrong == []


TO_URL = {"action": "REDIRECT_TO_URL", "redirect_url": "https://else.example/#%[src]?x"}
PREFIX = {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://else.example/new"}
ANY = ("PATH", "STARTS_WITH", "/")


@pytest.fixture
def two_pools(lab, node, serving):
    """An amphora whose listener has a second pool, of member 12."""
    other = replace(serving.pools[0], id=f"other-{lab.tag}", members=(lab.member(12),))
    return replace(serving, pools=(replace(serving.pools[0], members=(lab.member(10),)), other))


def to_pool(spec):
    return {"action": "REDIRECT_TO_POOL", "redirect_pool_id": spec.pools[1].id}


@pytest.mark.carries("REJECT, REDIRECT_TO_URL, REDIRECT_PREFIX, REDIRECT_TO_POOL", "every redirect code")
def test_actions_do_what_they_say_with_every_code(lab, node, two_pools, wait_until):
    codes = (301, 302, 303, 307, 308)
    redirects = [
        policy(rule("PATH", "STARTS_WITH", f"/{code}/{kind}"), redirect_http_code=code, **target)
        for code in codes for kind, target in (("url", TO_URL), ("prefix", PREFIX))]
    spec = with_policies(two_pools, *redirects, policy(rule("PATH", "EQUAL_TO", "/no")),
                         policy(rule("PATH", "EQUAL_TO", "/other"), **to_pool(two_pools)))
    assert node.put(spec).failure is None
    for code in codes:
        assert ask(lab, f"/{code}/url?a") == (code, TO_URL["redirect_url"])
        assert ask(lab, f"/{code}/prefix/x?a=b") == (code, f"{PREFIX['redirect_prefix']}/{code}/prefix/x?a=b")
    assert [ask(lab, path) for path in ("/no", "/other", "/")] == [(403, ""), (200, "12"), (200, "10")]
    wait_until(lambda: node.words("pools") == dict.fromkeys([pool.id for pool in spec.pools], "UP"))
    assert set(node.words("members")) == {lab.member(10).id, lab.member(12).id}


@pytest.mark.carries("position, across all actions")
def test_position_counts_across_all_actions(lab, node, two_pools):
    policies = [policy(rule(*ANY), **to_pool(two_pools)), policy(rule(*ANY), **PREFIX), policy(rule(*ANY)),
                policy(rule(*ANY), **TO_URL)]
    answers = [(200, "12"), (302, "https://else.example/new/"), (403, ""), (302, TO_URL["redirect_url"])]
    spec = two_pools
    for first in range(4):
        spec = with_policies(spec, *policies[first:], *policies[:first])
        assert node.put(spec).failure is None
        assert ask(lab) == answers[first]


@pytest.mark.carries("AND of up to fifty rules")
def test_a_policy_needs_all_its_rules_and_there_may_be_fifty(lab, node, serving):
    rules = [rule("HEADER", "EQUAL_TO", "1", f"X-{number}", invert=number % 2 == 1) for number in range(50)]
    assert node.put(with_policies(serving, policy(*rules))).failure is None
    headers = {f"X-{number}": "1" for number in range(0, 50, 2)}
    assert ask(lab, **headers)[0] == 403
    assert [ask(lab, **{**headers, f"X-{number}": "2"})[0] for number in (0, 24, 48)] == [200] * 3
    assert [ask(lab, **headers, **{f"X-{number}": "1"})[0] for number in (1, 25, 49)] == [200] * 3


def test_values_actions_targets_and_codes_change_in_the_same_worker(lab, node, two_pools):
    serving = with_policies(two_pools, policy(rule("PATH", "EQUAL_TO", "/a", id="r"), id="p"),
                            policy(rule(*ANY, id="any"), id="last", **to_pool(two_pools)))
    assert node.put(serving).how == "reload"
    pids = node.pids(serving)
    last = serving.listeners[0].l7policies[1]
    tricky = '" a;b \\# <<"'
    for step, (policies, requests, answers) in enumerate([
        ([policy(rule("PATH", "EQUAL_TO", "/b", id="r"), id="p"), last],
         [{"path": "/b"}, {"path": "/a"}], [(403, ""), (200, "12")]),
        ([policy(rule("PATH", "EQUAL_TO", "/b", id="r"), id="p", **TO_URL), last],
         [{"path": "/b"}, {"path": "/a"}], [(302, TO_URL["redirect_url"]), (200, "12")]),
        ([policy(rule("PATH", "EQUAL_TO", "/b;<<\\", id="r"), id="p", redirect_http_code=307, **TO_URL), last],
         [{"path": "/b;<<\\"}, {"path": "/b"}], [(307, TO_URL["redirect_url"]), (200, "12")]),
        ([policy(rule("PATH", "EQUAL_TO", "/b", id="r"), id="p", **to_pool(two_pools)), replace(last, **PREFIX)],
         [{"path": "/b"}, {"path": "/a"}], [(200, "12"), (302, "https://else.example/new/a")]),
        ([last], [{"path": "/b"}], [(200, "12")]),
        ([], [{"path": "/b"}], [(200, "10")]),
        ([policy(rule("PATH", "EQUAL_TO", "/c", id="r"), id="p"), last],
         [{"path": "/c"}, {"path": "/b"}], [(403, ""), (200, "12")]),
    ]):
        spec = with_policies(serving, *policies, version=10 + step)
        used = {spec.listeners[0].default_pool_id, *spec.listeners[0].redirect_pool_ids}
        applied = node.put(replace(spec, pools=tuple(pool for pool in spec.pools if pool.id in used)))
        assert (step, applied.failure, applied.how) == (step, None, "runtime")
        assert [ask(lab, **request) for request in requests] == answers
        print(f"\nstep {step}: {applied.seconds * 1000:.0f} ms", end="")
    assert set(node.pids(serving)) <= set(pids)
    # A reload finds in the files what the commands had made.
    assert node.put(replace(spec, version=20, listeners=(
        replace(spec.listeners[0], timeout_client_data=40_000),))).how == "reload"
    assert [ask(lab, **request) for request in requests] == answers
    named = with_policies(spec, policy(rule("HEADER", "CONTAINS", "x", "X-Why", id="h")), version=21)
    assert node.put(named).how == "reload"
    # This one needs another way of matching.
    again = with_policies(spec, policy(rule("HEADER", "CONTAINS", tricky, "X-Why", id="h")), version=22)
    assert node.put(again).failure is None
    assert ask(lab, X_Why="x a;b \\# <<x")[0] == 403


def test_a_policy_that_no_haproxy_can_read_changes_nothing(lab, node, serving, wait_until):
    """Python takes this regular expression, and so does the API; HAProxy does not."""
    good = with_policies(serving, policy(rule("PATH", "REGEX", "^/a", id="r"), id="p"))
    node.put(good)
    bad = with_policies(good, policy(rule("PATH", "REGEX", "^/b{70000}", id="r"), id="p"))
    assert "number too big in {} quantifier" in (node.put(bad).failure or "")
    assert [ask(lab, path)[0] for path in ("/a", "/b")] == [403, 200]
    # Nor does it keep a HAProxy that dies from coming back.
    os.kill(node.pids(serving)[0], signal.SIGKILL)
    wait_until(lambda: [ask(lab, path)[0] for path in ("/a", "/b")] == [403, 200])
    mended = with_policies(bad, policy(rule("PATH", "REGEX", "^/b", id="r"), id="p"))
    assert node.put(mended).failure is None
    assert [ask(lab, path)[0] for path in ("/a", "/b")] == [200, 403]


def test_nobody_notices_policies_that_come_change_and_go(lab, node, two_pools):
    spec = two_pools
    with lab.load(clients=16) as came:
        for step in range(40):
            target = spec.pools[step % 2].id
            main = policy(rule(*ANY, id="any"), id="main", action="REDIRECT_TO_POOL", redirect_pool_id=target)
            others = [policy(rule("PATH", "EQUAL_TO", f"/{step}"))] if step % 5 == 4 else []
            wanted = with_policies(spec, main, *others, version=10 + step)
            if step % 4 == 3:
                wanted = with_policies(spec, version=10 + step)
            used = {wanted.listeners[0].default_pool_id, *wanted.listeners[0].redirect_pool_ids}
            applied = node.put(replace(wanted, pools=tuple(pool for pool in spec.pools if pool.id in used)))
            assert applied.failure is None
            time.sleep(0.05)
    print(f"\n{sum(came['outcome'].values())} requests in {came['seconds']:.1f} s: {came['outcome']}")
    assert set(came["outcome"]) == {"200"}


CLIENTS = Authority("clients")
SITE = Authority("root").certificate_for("www.example.com")
ALICE = CLIENTS.certificate_for("alice")
AUTHORITIES = tuple(
    PemFile(name=name, kind=kind, digest=hashlib.sha256(pem.encode()).hexdigest(), pem=pem)
    for name, kind, pem in (("site.pem", "certificate", SITE.bundle), ("ca.pem", "authority", CLIENTS.pem)))
ABOUT_ALICE = (
    # rule without id, whether it is true of alice and of one who shows no certificate
    (("SSL_CONN_HAS_CERT", "EQUAL_TO", "True"), True, False),
    (("SSL_VERIFY_RESULT", "EQUAL_TO", "0"), True, True),
    (("SSL_VERIFY_RESULT", "EQUAL_TO", "10"), False, False),
    (("SSL_DN_FIELD", "EQUAL_TO", "alice", "CN"), True, False),
    (("SSL_DN_FIELD", "EQUAL_TO", "Alice", "CN"), False, False),
    (("SSL_DN_FIELD", "EQUAL_TO", "alice", "OU"), False, False),
    (("SSL_DN_FIELD", "STARTS_WITH", "al", "CN"), True, False),
    (("SSL_DN_FIELD", "ENDS_WITH", "al", "CN"), False, False),
    (("SSL_DN_FIELD", "CONTAINS", "lic", "CN"), True, False),
    (("SSL_DN_FIELD", "REGEX", "^a.+e$", "CN"), True, False),
)


def ask_by_tls(lab, folder, path, shows=None):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if shows:
        (folder / "client.pem").write_text(shows.bundle)
        context.load_cert_chain(folder / "client.pem")
    connection = http.client.HTTPSConnection(lab.vip, 443, timeout=3, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.carries("rules about a client's certificate", "client_authentication OPTIONAL")
def test_rules_about_a_clients_certificate(lab, node, serving, tmp_path):
    wrong = []
    cases = list(enumerate(itertools.product(ABOUT_ALICE, (False, True))))
    policies = [policy(rule(*about, invert=invert), rule("PATH", "EQUAL_TO", f"/{number}"))
                for number, ((about, _, _), invert) in cases]
    tls = TlsSpec(certificates=("site.pem",), authority="ca.pem", client_authentication="OPTIONAL")
    spec = with_policies(serving, *policies)
    listener = replace(spec.listeners[0], protocol="TERMINATED_HTTPS", protocol_port=443, tls=tls)
    assert node.put(replace(spec, listeners=(listener,), pem_files=AUTHORITIES)).failure is None
    for number, ((about, alice, nobody), invert) in cases:
        answers = [ask_by_tls(lab, tmp_path, f"/{number}", shows) for shows in (ALICE, None)]
        if answers != [403 if fits is not invert else 200 for fits in (alice, nobody)]:
            wrong.append((about, invert, answers))
    assert wrong == []
