# SPDX-License-Identifier: Apache-2.0
"""L7 policies in HAProxy: lines for their shape, files for all that can change without a reload.

Each rule is an acl whose pattern stands in a file of its own. Each policy is one line that, when its rules
are true and no earlier policy has decided, looks its verdict up in the listener's map; one that is not in the
map decides nothing. A few constant lines then do what the verdict says. So position counts across all
actions, and a map's entry is replaced at once, with action, target and code.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from statera.errors import GiveUp
from statera.render.backends import backend_name
from statera.render.regex import fault as faulty
from statera.render.text import name, one_of, quote, refused, token
from statera.wire import L7PolicySpec, L7RuleSpec, ListenerSpec, Spec

FOLDER = "l7"
"""Where the files lie, next to the configuration."""

CODES = (301, 302, 303, 307, 308)

EXTENSION = r'path,regsub("^.*?(?:[.]([^./]*))?$","\1")'
"""What stands after the last dot of the last segment; the empty text without a dot."""

FETCHES = {
    "HOST_NAME": "req.hdr(host),host_only",
    "PATH": "path",
    "FILE_TYPE": "path",
    "HEADER": 'req.hdr("{key}")',
    "COOKIE": 'req.cook("{key}")',
    "SSL_CONN_HAS_CERT": "ssl_c_used",
    "SSL_VERIFY_RESULT": "ssl_c_verify",
    "SSL_DN_FIELD": 'ssl_c_s_dn("{key}")',
}
METHODS = {"REGEX": "reg", "STARTS_WITH": "beg", "ENDS_WITH": "end", "CONTAINS": "sub", "EQUAL_TO": "str"}
AS_REGEX = {"beg": "^{}", "end": "{}$", "sub": "{}", "str": "^{}$"}


class Test(Struct, frozen=True, kw_only=True):
    """A comparison as HAProxy makes it: *method* is its matching method; without a *pattern* there is no file."""

    fetch: str
    method: str
    pattern: str | None = None


def lines(listener: ListenerSpec) -> Iterator[str]:
    """What a frontend says about its policies, values left out; nothing without policies."""
    for policy in listener.l7policies:
        yield from policy_lines(policy, listener)
    if not listener.l7policies:
        return
    yield "http-request deny if { var(txn.l7) -m str deny }"
    for kind in ("location", "prefix"):
        for code in CODES:
            word = f"{kind} {code} "
            yield (f"http-request redirect code {code} {kind} %[var(txn.l7),bytes({len(word)})]"
                   f" if {{ var(txn.l7) -m beg '{word}' }}")
    yield "use_backend %[var(txn.l7),bytes(5)] if { var(txn.l7) -m beg 'pool ' }"


def policy_lines(policy: L7PolicySpec, listener: ListenerSpec) -> Iterator[str]:
    for rule in policy.rules:
        yield acl(rule)
    rules = " ".join(("!" if rule.invert else "") + name(rule.id) for rule in policy.rules)
    verdict = f"str({name(policy.id)}),map({FOLDER}/{map_file(listener)})"
    # Most requests fit no rule: these come first, so that nothing else is looked at then.
    yield f"http-request set-var(txn.l7) {verdict} if {rules} !{{ var(txn.l7) -m found }}"


def acl(rule: L7RuleSpec) -> str:
    made = test(rule)
    ignore_case = " -i" if rule.type == "HOST_NAME" else ""
    source = "" if made.pattern is None else f" -f {FOLDER}/{rule_file(rule)}"
    return f"acl {name(rule.id)} {quote(made.fetch)}{ignore_case} -m {made.method}{source}"


def test(rule: L7RuleSpec) -> Test:
    """How HAProxy compares what the rule compares. Raise `GiveUp` for a key or value that no file can hold."""
    fetch = one_of(FETCHES, "l7rule type", rule.type)
    if "{key}" in fetch:
        fetch = fetch.replace("{key}", token(rule.key or ""))
    if rule.type == "SSL_CONN_HAS_CERT":
        return Test(fetch=fetch, method="bool")
    if rule.type == "SSL_VERIFY_RESULT":
        return Test(fetch=fetch, method="int", pattern=number(rule.value))
    method = one_of(METHODS, "compare_type", rule.compare_type)
    if rule.type == "FILE_TYPE" and method == "str":
        return Test(fetch=fetch, method="end", pattern="." + unquoted(plain(rule.value)).lstrip("."))
    if rule.type == "FILE_TYPE":
        fetch = EXTENSION
    return text_test(fetch, method, plain(rule.value))


def text_test(fetch: str, method: str, value: str) -> Test:
    """HAProxy drops blanks at the start of a line, and empty lines; a regex gets around both."""
    pattern = readable(value) if method == "reg" else unquoted(value)
    if method != "reg" and is_dropped(pattern):
        method, pattern = "reg", AS_REGEX[method].format(re.escape(pattern))
    if is_dropped(pattern):
        pattern = f"(?:){pattern}"
    return Test(fetch=fetch, method=method, pattern=pattern)


def readable(regex: str) -> str:
    """The regular expression, if HAProxy may know it; the last word has HAProxy."""
    if fault := faulty(regex):
        raise GiveUp("SPEC_REFUSED", f"{refused('regular expression', regex)}: {fault}")
    return regex


def is_dropped(pattern: str) -> bool:
    return pattern == "" or pattern[0] in " \t"


def unquoted(value: str) -> str:
    """A value with blanks is written inside double quotes, which are not part of it."""
    return value[1:-1] if re.fullmatch(r'".*"', value) else value


def plain(value: str) -> str:
    """The value, if it fits into a line of a file."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise refused("value", value)
    return value


def number(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,300}", value):
        raise refused("value", value)
    return str(min(int(value), 2**31 - 1))


def verdict(policy: L7PolicySpec, listener: ListenerSpec) -> str:
    """What becomes of requests that the policy is true of, in the words of the constant lines."""
    code = policy.redirect_http_code
    if policy.action == "REJECT":
        return "deny"
    if policy.action == "REDIRECT_TO_POOL":
        return f"pool {name(backend_name(policy.redirect_pool_id or '', listener))}"
    if code not in CODES:
        raise refused("redirect_http_code", code)
    if policy.action == "REDIRECT_TO_URL":
        return f"location {code} {plain(policy.redirect_url or '')}"
    if policy.action == "REDIRECT_PREFIX":
        return f"prefix {code} {plain(policy.redirect_prefix or '')}"
    raise refused("action", policy.action)


def rule_file(rule: L7RuleSpec) -> str:
    return name(rule.id)


def map_file(listener: ListenerSpec) -> str:
    return f"{name(listener.id)}.map"


def tests(spec: Spec) -> dict[str, Test]:
    """The comparison of each rule that has a file, by the file's name."""
    rules = [rule for listener in spec.listeners for policy in listener.l7policies for rule in policy.rules]
    return {rule_file(rule): made for rule in rules if (made := test(rule)).pattern is not None}


def verdicts(spec: Spec) -> dict[str, dict[str, str]]:
    """What stands in the map of each listener: the verdicts of the policies that are on."""
    return {
        map_file(listener): {
            policy.id: verdict(policy, listener) for policy in listener.l7policies if policy.enabled}
        for listener in spec.listeners if listener.l7policies
    }


def files(spec: Spec) -> dict[str, str]:
    """What the configuration finds in `FOLDER`, by the names of the files."""
    # The blank keeps a pattern that begins with # from being a comment.
    rules = {file: f" {made.pattern}\n" for file, made in tests(spec).items()}
    maps = {file: "".join(f"{id} {text}\n" for id, text in table.items()) for file, table in verdicts(spec).items()}
    return rules | maps
