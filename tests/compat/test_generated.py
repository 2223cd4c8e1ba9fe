# SPDX-License-Identifier: Apache-2.0
"""Requests that schemathesis makes up from the API's own description: no failure of ours, every answer as described."""

from collections import Counter

import pytest
import schemathesis
from furniture import furnished
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from statera.api.operations import NAMES

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
GOOD, BAD = 12, 5
"""Requests of each operation that fit its description, and that do not."""


@pytest.fixture(scope="module")
def answers():
    """How many answers had which status, over all operations; told in the end."""
    counted = Counter()
    yield counted
    print(f"\n{counted.total()} generated requests, answered", dict(sorted(counted.items())))


@pytest.fixture
def world(worlds):
    return worlds(api_settings={"default_provider_driver": "noop_driver"})


def requests_of(operation):
    """What fits the description, and what does not."""
    for mode, count in ((GenerationMode.POSITIVE, GOOD), (GenerationMode.NEGATIVE, BAD)):
        try:
            yield operation.as_strategy(generation_mode=mode), count
        except schemathesis.errors.SchemathesisError:
            continue  # nothing can be wrong with it


def pointed(case, known):
    """The request, about objects that are there."""
    case.path_parameters = {name: known.get(name, value) for name, value in (case.path_parameters or {}).items()}
    for inner in case.body.values() if isinstance(case.body, dict) else ():
        if isinstance(inner, dict):
            inner.update({name: known[name] for name in inner.keys() & known.keys()})
    return case


def ask(operation, strategy, count, known, answers):
    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(case=strategy, unknown=st.integers(0, 3))
    def every(case, unknown):
        response = (case if unknown == 3 else pointed(case, known)).call()
        answers[response.status_code] += 1
        assert response.status_code != 500, response.text
        case.validate_response(response, checks=CHECKS)

    every()


@pytest.mark.parametrize("kind", [many for _, many in NAMES.values()])
def test_answers_are_as_described(world, kind, answers):
    schema = schemathesis.openapi.from_wsgi("/openapi.json", world.app, config=SchemathesisConfig())
    known = furnished(world)
    found = [result.ok() for result in schema.include(tag=kind).get_all_operations()]
    for operation in sorted(found, key=lambda each: each.method == "delete"):
        for strategy, count in requests_of(operation):
            ask(operation, strategy, count, known, answers)
