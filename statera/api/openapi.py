# SPDX-License-Identifier: Apache-2.0
"""The API's description as an OpenAPI 3.1 document, made from the routes and the field tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from statera.api import operations, schemas
from statera.api.idempotency import LONGEST
from statera.api.kinds import Kind
from statera.api.operations import NAMES, Operation, complete
from statera.api.resources import (
    amphorae,
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
from statera.api.schemas import STATUSES, Schema, ref, whole

ABOUT = """\
Load balancers as OpenStack's Octavia API v2 describes them. Every path below `/v2.0/lbaas` is also there below
`/v2/lbaas`, `/v2.0` and `/v2`, and may end in a slash. Writes answer at once; `provisioning_status` tells when what is
wanted runs. Unknown attributes are refused. An answer with `fields` holds only the attributes asked for.
"""
KINDS: tuple[Kind, ...] = (
    loadbalancers.KIND, listeners.KIND, pools.KIND, members.KIND, healthmonitors.KIND, l7policies.KIND, l7rules.KIND,
    quotas.KIND, *(offer.kind for offer in catalogue.OFFERS.values()), amphorae.KIND,
)
ROOT_OF = {"amphora": "/v2.0/octavia"}
"""Where a kind's paths begin; all others below /v2.0/lbaas."""


def document(routes: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """The whole document; it depends on nothing but the code."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Statera", "version": version("statera"), "description": ABOUT,
                 "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "."}],
        "security": [{"token": []}],
        "tags": [{"name": many} for _, many in NAMES.values()],
        "paths": _paths(list(operations.operations(routes))),
        "components": {
            "schemas": components(),
            "responses": {"Refused": {
                "description": "Refused: `faultstring`, or `description`, says why.",
                "content": {"application/json": {"schema": ref("fault")}}}},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
    }


def _paths(found: Sequence[Operation]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in sorted(found, key=lambda each: list(NAMES).index(each.kind)):
        path = ROOT_OF.get(operation.kind, "/v2.0/lbaas") + named(operation.path)
        paths.setdefault(path, {})[operation.verb] = _operation(operation)
    return paths


SINGULAR = {kind.plural.replace("_", ""): kind.name for kind in KINDS} | {"providers": "provider"}
"""The collection's word in paths, and one of it."""


def named(path: str) -> str:
    """The path with parameters that say whose ids they are."""
    return re.sub(r"/(\w+)/\{\w+\}", lambda found: f"/{found[1]}/{{{SINGULAR[found[1]]}_{_key(found[1])}}}", path)


def _key(plural: str) -> str:
    return "name" if plural in ("providers", "availabilityzones") else "id"


ONLY_ONCE = {"post": ({
    "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST},
    "description": "Any text of the caller's: the same request with the same key is answered as it was before.",
},)}


def _operation(operation: Operation) -> dict[str, Any]:
    body = {} if operation.body is None else {"requestBody": {"required": True, "content": _json(operation.body)}}
    return {
        "operationId": "_".join(re.findall(r"\w+", f"{operation.verb} {_unplaced(operation.path)}")),
        "summary": operation.summary,
        "description": f"Policy rule: `os_load-balancer_api:{operation.policy}`.",
        "tags": [NAMES[operation.kind][1]],
        "parameters": [
            *_path_parameters(operation.path), *_query_parameters(operation.query), *ONLY_ONCE.get(operation.verb, ())],
        **body,
        "responses": _responses(operation),
    }


def _unplaced(path: str) -> str:
    return re.sub(r"\{\w+\}", "one", path)


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", named(path)):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(query: Mapping[str, Schema]) -> Iterator[dict[str, Any]]:
    for name, schema in query.items():
        plain = {word: value for word, value in schema.items() if word != "description"}
        yield {"name": name, "in": "query", "description": schema.get("description", ""), "schema": plain}


def _responses(operation: Operation) -> dict[str, Any]:
    content = {} if operation.answer is None else {"content": {operation.media: {"schema": operation.answer}}}
    good = {"description": HTTPStatus(operation.status).phrase, **content}
    refused = {str(status): {"$ref": "#/components/responses/Refused"} for status in refusals(operation)}
    return {str(operation.status): good, **refused}


def refusals(operation: Operation) -> Iterator[int]:
    """The status codes of refusals, in order."""
    yield from (400, 401, 403)
    if "{" in operation.path or operation.writes:
        yield 404
    yield 406
    if operation.writes:
        yield 409
    if operation.body is not None:
        yield from (413, 415)
    if operation.verb in ONLY_ONCE:
        yield 422
    if operation.writes or operation.kind == "provider":
        yield 501
    yield 503


def components() -> dict[str, Schema]:
    """Every schema that has a name."""
    named_schemas = {"fault": FAULT, "status_tree": STATUS_TREE, "loadbalancer_tree": _tree()}
    for kind in KINDS:
        named_schemas[kind.name] = schemas.answer(kind)
        named_schemas[f"{kind.name}_create"] = schemas.request(kind.name, kind.fields)
        named_schemas[f"{kind.name}_update"] = schemas.request(kind.name, kind.fields, changes=True)
    for name, parts in schemas.IN_TREE.items():
        named_schemas[f"{name}_in_tree"] = schemas.request(name, parts)
    return {name: schema for name, schema in named_schemas.items() if schema.get("properties") or name == "fault"}


def _tree() -> Schema:
    """What a load balancer's POST answers."""

    def many(schema: Schema) -> Schema:
        return {"type": "array", "items": schema}

    monitor = whole(healthmonitors.KIND, without=["pools"])
    policy = whole(l7policies.KIND, rules=many(complete(l7rules.KIND)))
    pool = whole(pools.KIND, without=["loadbalancers", "healthmonitor_id"], members=many(complete(members.KIND)),
                 healthmonitor={"anyOf": [monitor, {"type": "null"}]})
    listener = whole(listeners.KIND, without=["loadbalancers"], l7policies=many(policy))
    return whole(loadbalancers.KIND, listeners=many(listener), pools=many(pool))


def _brief(*more: str, optional: Mapping[str, Schema] | None = None, **children: Schema) -> Schema:
    """What a status tree says of one object."""
    names = ("id", "name", *more)
    texts: dict[str, Schema] = {name: {"type": "string"} for name in names}
    texts |= {"protocol_port": {"type": "integer"}} if "protocol_port" in names else {}
    return {"type": "object", "properties": {**texts, **STATUSES, **children, **(optional or {})},
            "required": [*names, *STATUSES, *children], "additionalProperties": False}


def _status_tree() -> Schema:
    member = _brief("address", "protocol_port")
    pool = _brief(members={"type": "array", "items": member}, optional={"health_monitor": _brief("type")})
    listener = _brief(pools={"type": "array", "items": pool})
    lb = _brief(listeners={"type": "array", "items": listener})
    return operations.rooted("statuses", operations.rooted("loadbalancer", lb))


STATUS_TREE = _status_tree()
FAULT: Schema = {"type": "object", "anyOf": [
    {"required": ["faultcode", "faultstring", "debuginfo"], "properties": {
        "faultcode": {"type": "string", "enum": ["Client", "Server"]}, "faultstring": {"type": "string"},
        "debuginfo": {"type": "null"}}},
    {"required": ["code", "title", "description"], "properties": {
        "code": {"type": "integer"}, "title": {"type": "string"}, "description": {"type": ["string", "null"]}}},
    {"required": ["error"]},
]}
