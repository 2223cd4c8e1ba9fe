# SPDX-License-Identifier: Apache-2.0
"""What each route does, verb by verb: derived from the kinds where they share a way, else a row of a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from statera.api import schemas
from statera.api.handlers import Collection, Item
from statera.api.kinds import Kind
from statera.api.resources import amphorae, catalogue, quotas
from statera.api.schemas import Schema, or_null, ref
from statera.store.statistics import COUNTERS

NAMES = {
    "loadbalancer": ("a load balancer", "Load balancers"),
    "listener": ("a listener", "Listeners"),
    "pool": ("a pool", "Pools"),
    "member": ("a member", "Members"),
    "healthmonitor": ("a health monitor", "Health monitors"),
    "l7policy": ("an L7 policy", "L7 policies"),
    "rule": ("an L7 rule", "L7 rules"),
    "quota": ("a project's quota", "Quotas"),
    "provider": ("a provider", "Providers"),
    "flavor": ("a flavor", "Flavors"),
    "flavorprofile": ("a flavor profile", "Flavor profiles"),
    "availability_zone": ("an availability zone", "Availability zones"),
    "availability_zone_profile": ("an availability zone profile", "Availability zone profiles"),
    "amphora": ("an amphora", "Amphorae"),
}
"""Kind: one of them, and all; in the order of the reference."""


class Operation(Struct, frozen=True, kw_only=True):
    """One verb of one path below the root of its API.

    *kind* is a key of `NAMES`, *policy* a rule's name after `os_load-balancer_api:`, *query* maps parameters
    to their schemas, *body* and *answer* are whole documents, None where nothing is sent; *media* is the answer's type.
    """

    verb: str
    path: str
    kind: str
    summary: str
    policy: str
    query: Mapping[str, Schema] = {}
    body: Schema | None = None
    status: int = 200
    answer: Schema | None = None
    media: str = "application/json"

    @property
    def writes(self) -> bool:
        return self.verb != "get"


def rooted(name: str, schema: Schema) -> Schema:
    """A document with *schema* below its one root key."""
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def operations(routes: Sequence[tuple[str, object]]) -> Iterator[Operation]:
    """What the routes do. Every responder's verb has an operation, but for those that always refuse."""
    for path, responder in routes:
        match responder:
            case Collection() | catalogue.Offers():
                yield from _of_many(path, responder.kind)
            case Item() | catalogue.OneOffer():
                yield from _of_one(path, responder.kind)
        yield from SPECIAL.get(path, ())


# Query parameters.

TEXT: Schema = {"type": "string"}
FIELDS: Mapping[str, Schema] = {"fields": {
    "type": "array", "items": TEXT, "description": "Only these attributes; repeated, not joined by commas."}}
PAGES: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "description": "Most objects in the answer; 0 for all."},
    "marker": {**TEXT, "description": "The id after which the page begins."},
    "page_reverse": {"type": "string", "enum": ["True", "False"], "description": "`True`: the page before the marker."},
    "sort": {**TEXT, "description": "`key:asc,key:desc`."},
    "sort_key": {**TEXT, "description": "Keys, joined by commas; an older way of `sort`."},
    "sort_dir": {**TEXT, "description": "`asc` or `desc` for each key, joined by commas."},
}
TAGS: Mapping[str, Schema] = {
    "tags": {**TEXT, "description": "Has all of these tags, joined by commas."},
    "tags-any": {**TEXT, "description": "Has one of these tags."},
    "not-tags": {**TEXT, "description": "Does not have all of these tags."},
    "not-tags-any": {**TEXT, "description": "Has none of these tags."},
}
YES = {"type": "boolean"}
WAIT: Mapping[str, Schema] = {
    "wait": {"type": "string", "enum": ["ACTIVE", "DELETED"],
             "description": "Answer when this is the provisioning status, or ERROR is, or the time is over."},
    "timeout": {"type": "number", "minimum": 0, "description": "With `wait`: at most so many seconds, 60 at the most."},
}


def filters(kind: Kind) -> dict[str, Schema]:
    """Everything that a list of this kind can be filtered by."""
    kept = {field.name for field in kind.fields if field.shown}
    return {name: {**TEXT, "description": f"Has this {name}."} for name in kind.view.keys if name in kept}


# What kinds share.


def _of_many(path: str, kind: Kind) -> Iterator[Operation]:
    one, many = NAMES[kind.name]
    tags = TAGS if kind.view.tagged else {}
    yield Operation(verb="get", path=path, kind=kind.name, summary=f"List {_lower(many)}",
                    policy=f"{kind.policy}:get_all", query={**filters(kind), **PAGES, **tags, **FIELDS},
                    answer=listed(kind))
    created = ref("loadbalancer_tree") if kind.name == "loadbalancer" else complete(kind)
    yield Operation(verb="post", path=path, kind=kind.name, summary=f"Create {one}", policy=f"{kind.policy}:post",
                    body=rooted(kind.name, ref(f"{kind.name}_create")), status=201, answer=rooted(kind.name, created))


def _of_one(path: str, kind: Kind) -> Iterator[Operation]:
    one, _ = NAMES[kind.name]
    yield Operation(verb="get", path=path, kind=kind.name, summary=f"Show {one}", policy=f"{kind.policy}:get_one",
                    query={**FIELDS, **(WAIT if kind.name == "loadbalancer" else {})},
                    answer=rooted(kind.name, ref(kind.name)))
    yield Operation(verb="put", path=path, kind=kind.name, summary=f"Change {one}", policy=f"{kind.policy}:put",
                    body=rooted(kind.name, ref(f"{kind.name}_update")), answer=rooted(kind.name, complete(kind)))
    cascade = {"cascade": {**YES, "description": "Delete what is below it too."}}
    yield Operation(verb="delete", path=path, kind=kind.name, summary=f"Delete {one}", policy=f"{kind.policy}:delete",
                    query=cascade if kind.name == "loadbalancer" else {}, status=204)


def _lower(words: str) -> str:
    return words if words[1].isupper() or words[1].isdigit() else words[0].lower() + words[1:]


def listed(kind: Kind) -> Schema:
    """A page of objects and the links to its neighbours."""
    return {
        "type": "object", "additionalProperties": False, "required": [kind.plural, kind.links_key],
        "properties": {kind.plural: {"type": "array", "items": ref(kind.name)}, kind.links_key: or_null(LINKS)},
    }


LINKS: Schema = {"type": "array", "items": {
    "type": "object", "required": ["href", "rel"], "additionalProperties": False,
    "properties": {"href": {"type": "string"}, "rel": {"type": "string", "enum": ["previous", "next"]}},
}}


def complete(kind: Kind) -> Schema:
    """An object with every attribute."""
    return {"allOf": [ref(kind.name), {"required": schemas.always(kind)}]}


# What is done in one place only.

COUNT: Schema = {"type": "integer"}
STATISTICS: Schema = {
    "type": "object", "properties": dict.fromkeys(COUNTERS, COUNT), "required": list(COUNTERS),
    "additionalProperties": False,
}
AMPHORA_STATISTICS: Schema = {"type": "array", "items": {
    "type": "object", "required": ["id", "listener_id", "loadbalancer_id", *COUNTERS],
    "properties": {**dict.fromkeys(("id", "listener_id", "loadbalancer_id"), TEXT), **STATISTICS["properties"]},
}}
DESCRIBED: Schema = {"type": "array", "items": {
    "type": "object", "properties": {"name": TEXT, "description": TEXT}, "additionalProperties": False}}
QUOTA: Schema = rooted("quota", complete(quotas.KIND))
NAMED = {name: {**TEXT, "description": f"Has this {name}."} for name in ("name", "description")}
ADDITIVE = {"additive_only": {**YES, "description": "Keep members that are not listed."}}


def _special(kind: str, verb: str, path: str, action: str, summary: str, **more: Any) -> Operation:
    return Operation(kind=kind, verb=verb, path=path, policy=action, summary=summary, **more)


EVENTS: Schema = {
    "type": "object", "additionalProperties": False, "required": ["events", "events_links"],
    "properties": {"events_links": LINKS, "events": {"type": "array", "items": {
        "type": "object", "additionalProperties": False,
        "properties": {
            "id": COUNT, "attempt": COUNT, "at": TEXT, "object_type": TEXT, "object_id": TEXT, "reason": TEXT,
            "message": TEXT, "fault": TEXT, "next_try_at": or_null(TEXT), "request_id": or_null(TEXT)}}}},
}
SENTENCES: Schema = {"type": "array", "items": TEXT}
PLAN: Schema = {
    "type": "object", "additionalProperties": False, "required": ["plan", "explanation"],
    "properties": {
        "plan": {"type": "array", "items": {
            "type": "object", "properties": {"action": TEXT, "message": TEXT}, "additionalProperties": False}},
        "explanation": or_null({
            "type": "object", "additionalProperties": False,
            "properties": {**dict.fromkeys(("wanted", "there", "missing", "why", "todo"), SENTENCES), "next": TEXT}}),
    },
}

LOG_TARGET: Schema = rooted("log_target", {
    "type": "object", "required": ["url"], "additionalProperties": False,
    "properties": {"url": {**TEXT, "description": "tcp://address:port or udp://address:port"}}})
NUMBER: Schema = {"type": "number"}
LIMITS: Schema = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "memory_mb": or_null(COUNT), "cpus": or_null(NUMBER), "max_connections": or_null(COUNT),
        "amphorae": {"type": "array", "items": {
            "type": "object", "additionalProperties": False,
            "properties": {
                "id": TEXT, "role": TEXT,
                "effective": or_null({
                    "type": "object", "additionalProperties": False,
                    "properties": {
                        "max_connections": COUNT, "limited_by": TEXT, "file_descriptors": COUNT,
                        "memory_mb": or_null(COUNT), "cpus": or_null(NUMBER)}}),
                "alarms": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False,
                    "properties": dict.fromkeys(("reason", "message", "object_type", "object_id"), TEXT)}}}}}},
}

ROWS = (
    _special("loadbalancer", "get", "/loadbalancers/{id}/events", "loadbalancer:get_one",
             "List what happened to a load balancer, newest first",
             query={name: PAGES[name] for name in ("limit", "marker")}, answer=EVENTS),
    _special("loadbalancer", "get", "/metrics", "loadbalancer:get_all",
             "Show the statuses and counters of load balancers, for Prometheus", answer=TEXT, media="text/plain",
             query={"project_id": {**TEXT, "description": "Only this project's."}}),
    _special("loadbalancer", "get", "/loadbalancers/{id}/plan", "loadbalancer:put_failover",
             "Show what a controller would do about a load balancer now, and why", answer=PLAN),
    _special("loadbalancer", "get", "/loadbalancers/{id}/log_target", "loadbalancer:get_log_target",
             "Show where the lines about a load balancer's connections are sent",
             answer=rooted("log_target", {"type": "object", "properties": {"url": or_null(TEXT)}})),
    _special("loadbalancer", "put", "/loadbalancers/{id}/log_target", "loadbalancer:put_log_target",
             "Send the lines about a load balancer's connections to a log server", body=LOG_TARGET, answer=LOG_TARGET,
             status=202),
    _special("loadbalancer", "delete", "/loadbalancers/{id}/log_target", "loadbalancer:delete_log_target",
             "Send the lines about a load balancer's connections nowhere", status=204),
    _special("loadbalancer", "get", "/loadbalancers/{id}/limits", "loadbalancer:get_one",
             "Show what a load balancer's amphorae may use and which limit is hit", answer=rooted("limits", LIMITS)),
    _special("loadbalancer", "get", "/loadbalancers/{id}/stats", "loadbalancer:get_stats",
             "Show a load balancer's statistics", answer=rooted("stats", STATISTICS)),
    *(_special("loadbalancer", "get", f"/loadbalancers/{{id}}/{word}", "loadbalancer:get_status",
               "Show both statuses of a load balancer and all below it", answer=ref("status_tree"))
      for word in ("status", "statuses")),
    _special("loadbalancer", "put", "/loadbalancers/{id}/failover", "loadbalancer:put_failover",
             "Replace a load balancer's amphorae", status=202),
    _special("loadbalancer", "put", "/loadbalancers/{id}/flavor", "loadbalancer:put",
             "Give a load balancer another flavor while it serves", status=202,
             body=rooted("flavor", {"type": "object", "required": ["flavor_id"], "additionalProperties": False,
                                    "properties": {"flavor_id": {**TEXT, "format": "uuid"}}})),
    _special("listener", "get", "/listeners/{id}/stats", "listener:get_stats", "Show a listener's statistics",
             answer=rooted("stats", STATISTICS)),
    _special("member", "put", "/pools/{id}/members", "member:put", "Set all members of a pool at once", query=ADDITIVE,
             body=rooted("members", {"type": "array", "items": ref("member_create")}), status=202),
    _special("quota", "get", "/quotas", "quota:get_all", "List quotas",
             query={**filters(quotas.KIND), **PAGES}, answer=listed(quotas.KIND)),
    _special("quota", "get", "/quotas/{id}", "quota:get_one", "Show a project's quota", answer=QUOTA),
    _special("quota", "put", "/quotas/{id}", "quota:put", "Change a project's quota",
             body=rooted("quota", ref("quota_update")), status=202, answer=QUOTA),
    _special("quota", "delete", "/quotas/{id}", "quota:delete", "Reset a project's quota", status=202),
    _special("quota", "get", "/quotas/{id}/default", "quota:get_defaults", "Show the default quota", answer=QUOTA),
    _special("provider", "get", "/providers", "provider:get_all", "List providers", query=FIELDS,
             answer=rooted("providers", DESCRIBED)),
    *(_special("provider", "get", f"/providers/{{provider}}/{word}_capabilities", f"provider-{rule}:get_all",
               f"List what a provider's {words} may say", query={**NAMED, **FIELDS},
               answer=rooted(f"{word}_capabilities", DESCRIBED))
      for word, rule, words in (
          ("flavor", "flavor", "flavors"), ("availability_zone", "availability-zone", "availability zones"))),
    _special("amphora", "get", "/amphorae", "amphora:get_all", "List amphorae",
             query={**filters(amphorae.KIND), **PAGES, **FIELDS}, answer=listed(amphorae.KIND)),
    _special("amphora", "get", "/amphorae/{id}", "amphora:get_one", "Show an amphora", query=FIELDS,
             answer=rooted("amphora", ref("amphora"))),
    _special("amphora", "delete", "/amphorae/{id}", "amphora:delete", "Delete an amphora", status=204),
    _special("amphora", "get", "/amphorae/{id}/stats", "amphora:get_stats", "Show an amphora's statistics",
             answer=rooted("amphora_stats", AMPHORA_STATISTICS)),
    _special("amphora", "put", "/amphorae/{id}/failover", "amphora:put_failover", "Replace an amphora", status=202),
    _special("amphora", "put", "/amphorae/{id}/config", "amphora:put_config", "Look whether an amphora is up to date",
             status=202),
)
SPECIAL: Mapping[str, Sequence[Operation]] = {
    path: [row for row in ROWS if row.path == path] for path in dict.fromkeys(row.path for row in ROWS)
}
