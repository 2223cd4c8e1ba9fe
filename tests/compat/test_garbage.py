# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to whichever route: never our fault, always one of the fault's shapes, never half of a write."""

from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, union_all

from statera.api import kinds, types
from statera.api.fields import ABSENT, Field
from statera.api.resources import (
    catalogue,
    healthmonitors,
    l7policies,
    l7rules,
    listeners,
    loadbalancers,
    members,
    pools,
    quotas,
)
from statera.store import tables

UUID = "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1"
SHAPES = ({"faultcode", "faultstring", "debuginfo"}, {"code", "title", "description"})
KINDS: tuple[kinds.Kind, ...] = (
    loadbalancers.KIND, listeners.KIND, pools.KIND, members.KIND, healthmonitors.KIND, l7policies.KIND, l7rules.KIND,
    quotas.KIND, catalogue.FLAVOR, catalogue.FLAVOR_PROFILE, catalogue.ZONE, catalogue.ZONE_PROFILE)
TEXTS = (
    "", " ", "a", "\0", "\x7f\x1b[31m", "\r\nInjected: yes", "é漢字🦄", "\u202e", "x" * 256, "y" * 5000, "-1", "1e999",
    "NaN", "' OR 1=1; DROP TABLE load_balancers; --", "%00", "{}", "{0}", "{protocol}", "%s", "${ENV}",
    "\n    server evil 192.0.2.1:80", "web\n  acl all always_true", "../../etc/passwd", "192.0.2.1", "::1",
    "fe80::1%eth0", "10.0.0.0/8", "HTTP", "TCP", "UDP", "ROUND_ROBIN", "SOURCE_IP", "APP_COOKIE", "REDIRECT_TO_POOL",
    "REDIRECT_TO_URL", "HEADER", "REGEX", "(", "EQUAL_TO", "TERMINATED_HTTPS", "http://[::1", "http://a:99999999/", "/",
    "200-", "[", "true", "noop_driver", UUID)
NUMBERS = (0, 1, -1, 80, 65535, 65536, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30, -10**30, 0.5, 1.1, 1e300)
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.text(max_size=20)
KEYS = st.sampled_from((*TEXTS[:9], "name", "id", "subnet_id", "type", "X-Forwarded-For"))
GARBAGE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


GOOD = {
    types.Uuid: lambda _type, ids: st.sampled_from([*ids, UUID]),
    types.Text: lambda type, _ids: st.sampled_from(TEXTS) | st.text(min_size=type.shortest, max_size=20),
    types.Int: lambda type, _ids: st.integers(max(type.smallest, -5), min(type.largest, 300)),
    types.Bool: lambda _type, _ids: st.booleans(),
    types.Enum: lambda type, _ids: st.sampled_from(type.values),
    types.Number: lambda type, _ids: st.sampled_from(type.values),
    types.Ip: lambda _type, _ids: st.sampled_from(("192.0.2.1", "2001:db8::1")),
    types.Cidr: lambda _type, _ids: st.sampled_from(("192.0.2.0/24", "2001:db8::/32")),
    types.Url: lambda _type, _ids: st.just("http://www.example.com/"),
    types.UrlPath: lambda _type, _ids: st.sampled_from(("/", "/a?b=c#d")),
    types.Alpn: lambda _type, _ids: st.just("h2"),
    types.Tags: lambda _type, _ids: st.lists(st.sampled_from(("a", "é", "c,d")), unique=True),
    types.ListOf: lambda type, ids: st.lists(good(type.item, ids), max_size=2),
    types.MapOf: lambda _type, _ids: st.sampled_from(({}, {"X-Forwarded-For": "true"}, {"X-SSL-Issuer": "true"})),
    types.Nested: lambda type, ids: bodies(type.parts, ids),
}


def good(kind: object, ids: list[str]) -> st.SearchStrategy[object]:
    """Values that the type takes; rules may still refuse them."""
    return st.deferred(lambda: GOOD[type(kind)](kind, ids))


def field_value(field: Field, ids: list[str]) -> st.SearchStrategy[object]:
    """Now and then something else than the field's type takes."""
    return st.integers(0, 24).flatmap(lambda dice: GARBAGE if dice == 7 else good(field.type, ids))


def bodies(fields: Sequence[Field], ids: list[str]) -> st.SearchStrategy[dict[str, object]]:
    """Objects with what they need and a few more fields."""
    settable = {field.name: field for field in fields if field.type is not None}
    needed = {name: field_value(field, ids) for name, field in settable.items() if field.required}
    others = [name for name in settable if name not in needed]
    chosen = st.lists(st.sampled_from(others), max_size=4, unique=True) if others else st.just([])
    return chosen.flatmap(lambda names: st.fixed_dictionaries(
        needed | {name: field_value(settable[name], ids) for name in names}))


def documents(ids: list[str]) -> st.SearchStrategy[object]:
    whole = [st.fixed_dictionaries({kind.name: bodies(kind.fields, ids)}) for kind in KINDS]
    batch = st.fixed_dictionaries({"members": st.lists(bodies(members.FIELDS, ids), max_size=4)})
    return st.one_of(*whole, batch, GARBAGE)


class Target:
    """A world with one object of each kind, and what its tables hold."""

    def __init__(self, world):
        self.world = world
        lb = world.lb(provider="noop_driver")
        pool, listener = world.pool(lb), world.listener(lb)
        policy = world.policy(listener)
        rule = world.post(f"/l7policies/{policy['id']}/rules", rule={
            "type": "PATH", "compare_type": "EQUAL_TO", "value": "/"})["rule"]
        self.paths = {
            "/loadbalancers": lb, "/listeners": listener, "/pools": pool, "/l7policies": policy,
            f"/pools/{pool['id']}/members": world.member(pool), "/healthmonitors": world.monitor(pool),
            f"/l7policies/{policy['id']}/rules": rule}
        self.ids = [shown["id"] for shown in self.paths.values()]

    @property
    def routes(self):
        others = ("/quotas", "/flavors", "/flavorprofiles", "/availabilityzones", "/availabilityzoneprofiles",
                  "/providers", "/providers/amphora/flavor_capabilities", "/nothing", "/quotas/defaults")
        more = ("/status", "/stats", "/events", "/failover", "/default", "/config", "/plan")
        ids = st.sampled_from([*self.ids, UUID, "name", "\0", "é"])
        collections = st.sampled_from([*self.paths, *others])
        tails = st.sampled_from(("", "", *more))
        return collections | st.builds(lambda path, id, tail: f"{path}/{id}{tail}", collections, ids, tails)

    def held(self):
        """How many rows each table has, and the wishes so far; events of refused requests would show here too."""
        names = [table for table in tables.metadata.sorted_tables if table is not tables.quotas]
        count = union_all(*(select(func.count()).select_from(table) for table in names))
        with self.world.store.read() as connection:
            return [connection.execute(count).all(),
                    connection.execute(select(func.sum(tables.load_balancers.c.version))).scalar_one()]


VERBS = ("POST", "PUT", "GET", "DELETE", "PATCH")
HEADERS = st.fixed_dictionaries({}, optional={
    "Content-Type": st.sampled_from(("application/json", "application/json; charset=utf-8", "text/plain", "", "a/b/c",
                                     "application/x-www-form-urlencoded")),
    "Accept": st.sampled_from(("*/*", "application/json", "text/html", ";;", "")),
    "Idempotency-Key": st.sampled_from(("", "k", "x" * 300)),
    "X-Project-Id": st.sampled_from((UUID.replace("-", ""), "x" * 36, "é")),
})
QUERY_KEYS = (
    "limit", "marker", "sort", "sort_key", "sort_dir", "fields", "tags", "not-tags-any", "page_reverse", "name", "id",
    "protocol_port", "created_at", "http_version", "admin_state_up", "project_id", "cascade", "additive_only", "wait",
    "timeout", "tenant_id", "nothing", "\0")
QUERY_VALUES = (*TEXTS, "0", "-5", "9" * 30, "name:desc", "a:b:c", "ACTIVE")
QUERIES = st.lists(st.tuples(st.sampled_from(QUERY_KEYS), st.sampled_from(QUERY_VALUES)), max_size=3)
FREQUENT = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


def require_fault(answer):
    """An error that is the caller's, in one of the shapes."""
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
    if answer.status_code >= 400:
        assert set(answer.json) in SHAPES, answer.text
        assert "sqlite" not in answer.text.lower().replace("requires", ""), answer.text
        assert len(answer.text) < 8000


def test_structured_garbage_is_refused_whole_or_taken_whole(world):
    target = Target(world)

    @FREQUENT
    @given(st.sampled_from(VERBS), target.routes, documents(target.ids), HEADERS, QUERIES)
    def throw(verb, path, document, headers, query):
        if verb == "DELETE" and path.endswith(tuple(target.ids)):
            return
        before = target.held()
        answer = world.call(verb, quote(path), document, headers=headers, query=query if verb == "GET" else query[:1])
        require_fault(answer)
        if answer.status_code >= 400:
            assert target.held() == before

    throw()


def test_each_kind_takes_garbage_in_its_own_fields(world):
    target = Target(world)
    own = [(path, kind) for path in target.paths for kind in KINDS
           if path.endswith(f"/{kind.plural}")] + [(f"/{kind.plural.replace('_', '')}", kind) for kind in KINDS[8:]]

    def request(path, kind):
        changes = [field for field in kind.fields if field.put]
        post = bodies([field for field in kind.fields if field.post is not ABSENT], target.ids)
        items = [f"{path}/{target.paths[path]['id']}"] if path in target.paths else []
        put = st.tuples(st.just("PUT"), st.sampled_from(items or [path]), bodies(changes, target.ids))
        return st.tuples(st.just(kind.name), st.tuples(st.just("POST"), st.just(path), post) | put)

    @FREQUENT
    @given(st.one_of(*(request(path, kind) for path, kind in own)))
    def throw(made):
        root, (verb, path, body) = made
        if path == "/loadbalancers":
            body = {"vip_subnet_id": UUID, "project_id": "p", **body}
        before = target.held()
        answer = world.call(verb, path, {root: body})
        require_fault(answer)
        if answer.status_code >= 400:
            assert target.held() == before

    throw()


@pytest.mark.parametrize(("raw", "fault"), [
    pytest.param(b"{", "Request is not in valid JSON format", id="cut off"),
    pytest.param(b"\xff\xfe", "Request is not in valid JSON format", id="not UTF-8"),
    pytest.param(b'{"loadbalancer": NaN}', "Request is not in valid JSON format", id="NaN"),
    pytest.param(b'{"pool": {"name": "\\ud800"}}', "Request is not in valid JSON format", id="half a surrogate"),
    pytest.param(b"[" * 100_000, "Request is not in valid JSON format", id="deep without end"),
    pytest.param(b'{"loadbalancer": ' * 900 + b"1" + b"}" * 900, "", id="deep with an end"),
    pytest.param(b"[]", "Request must be a JSON dict", id="a list"),
    pytest.param(b'"load_balancer"', "Request must be a JSON dict", id="a text"),
    pytest.param(b"null", "Request must be a JSON dict", id="null"),
    pytest.param(b"", 'Missing argument: "load_balancer"', id="nothing"),
    pytest.param(b"{}", 'Missing argument: "load_balancer"', id="no root key"),
])
def test_ill_formed_bodies_say_what_is_wrong(world, raw, fault):
    given = world.refused(400, "POST", "/loadbalancers", raw=raw, headers={"Content-Type": "application/json"})
    assert given.startswith(fault)


def test_a_body_that_is_too_large_is_refused_before_all_else(worlds):
    world = worlds(api_settings={"max_request_body_size": 1000, "auth_strategy": "testing"})
    for path in ("/loadbalancers", "/nothing"):
        assert world.refused(413, "POST", path, {"name": "x" * 1000}) == "The body of a request may have 1000 bytes."


def test_the_beginning_of_a_long_bad_value_is_shown(world):
    fault = world.refused(400, "POST", "/loadbalancers", {"loadbalancer": {"name": "x" * 100_000}})
    assert fault.startswith("Invalid input for field/attribute name. Value: 'xxx")
    assert len(fault) < 3000


def test_text_that_looks_like_code_is_kept_as_text(world):
    lb = world.lb()
    for text in TEXTS:
        if len(text) < 256 and "\0" not in text:
            shown = world.put(f"/loadbalancers/{lb['id']}", loadbalancer={"name": text, "tags": [text]})["loadbalancer"]
            assert (shown["name"], shown["tags"]) == (text, [text])
            assert world.get(f"/loadbalancers/{lb['id']}")["loadbalancer"]["name"] == text
            assert [found["id"] for found in world.get("/loadbalancers", name=text)["loadbalancers"]] == [lb["id"]]


def test_nothing_remains_of_a_tree_that_fails_at_its_last_leaf(worlds):
    world = worlds(api_settings={"auth_strategy": "testing"})
    world.headers = {"X-Project-Id": "p", "X-Roles": "member,reader"}
    rule = {"type": "PATH", "compare_type": "REGEX", "value": "("}
    tree = {"vip_subnet_id": UUID, "provider": "noop_driver", "tags": ["a"], "listeners": [{
        "protocol": "HTTP", "protocol_port": 80, "l7policies": [{"action": "REJECT", "rules": [rule]}],
        "default_pool": {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                         "members": [{"address": "192.0.2.1", "protocol_port": 80}]}}]}
    world.refused(400, "POST", "/loadbalancers", {"loadbalancer": tree})
    with world.store.read() as connection:
        held = {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in tables.metadata.sorted_tables}
    assert set(held.values()) == {0}, held
