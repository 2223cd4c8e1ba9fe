# SPDX-License-Identifier: Apache-2.0
"""The API describes itself: to programs by /openapi.json, to people by /docs, to operators by a policy sample."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from falcon.routing.util import map_http_methods

from statera.api import app, openapi, operations
from statera.api.acts import Service
from statera.api.handlers import Collection
from statera.api.resources import amphorae
from statera.config import Settings


def only_says_that_an_id_is_missing(act):
    return act.__func__ in (Collection.on_put, Collection.on_delete)


@pytest.fixture
def described():
    service = Service(Settings(), None, None, None)
    return [*app.routes(service), *amphorae.routes(service)]


@pytest.fixture
def document(described):
    return openapi.document(described)


def test_every_verb_of_every_route_is_described(described):
    told = {(each.verb, each.path) for each in operations.operations(described)}
    there = {(verb.lower(), path) for path, responder in described
             for verb, act in map_http_methods(responder).items() if not only_says_that_an_id_is_missing(act)}
    assert told == there


def test_every_attribute_has_a_meaning(document):
    for name, schema in document["components"]["schemas"].items():
        if name.split("_")[0] in {kind.name for kind in openapi.KINDS} and name != "loadbalancer_tree":
            assert all(each["description"] for each in schema["properties"].values()), name


def test_references_lead_somewhere(document):
    text = str(document)
    targets = {name.rsplit("/", 1)[1] for name in re.findall(r"#/components/schemas/\w+", text)}
    assert targets <= document["components"]["schemas"].keys()


@pytest.mark.parametrize("strategy", ["noauth", "testing"])
def test_anybody_may_read_it(worlds, strategy):
    world = worlds(api_settings={"auth_strategy": strategy})
    result = world.call("GET", "/openapi.json", root="")
    assert result.status_code == 200
    assert result.json["openapi"] == "3.1.0"
    assert result.headers["content-type"] == "application/json"


def test_the_page_needs_nothing_from_elsewhere(world):
    result = world.call("GET", "/docs", root="", headers={"Accept": "text/html"})
    assert result.status_code == 200
    assert result.headers["content-type"].startswith("text/html")
    assert "/v2.0/lbaas/loadbalancers/{loadbalancer_id}/failover" in result.text
    assert not re.search(r"(src|href)=\"(https?:)?//|@import|url\(", result.text)


@pytest.mark.parametrize("tool", ["oslopolicy-sample-generator", "oslopolicy-policy-generator"])
def test_oslo_policys_tools_know_every_rule(tool):
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([program, "--namespace", "octavia"], capture_output=True, text=True, check=True)
    assert len(re.findall(r'^#?"[\w:-]+": "', done.stdout, re.MULTILINE)) == 97 + 3  # and those of log targets
