# SPDX-License-Identifier: Apache-2.0
"""Version 1 of the API, which neutron-lbaas's driver spoke, says that it is gone and where things are now."""

import pytest


@pytest.mark.parametrize(("verb", "path", "place"), [
    ("GET", "/v1/loadbalancers", "/v2.0/lbaas/loadbalancers"),
    ("POST", "/v1/loadbalancers", "/v2.0/lbaas/loadbalancers"),
    ("DELETE", "/v1/loadbalancers/a", "/v2.0/lbaas/loadbalancers/a"),
    ("GET", "/v1/loadbalancers/a/listeners", "/v2.0/lbaas/listeners"),
    ("PUT", "/v1/loadbalancers/a/pools/p/healthmonitor", "/v2.0/lbaas/healthmonitors"),
    ("GET", "/v1/loadbalancers/a/pools/p/members/m", "/v2.0/lbaas/pools/p/members/m"),
    ("GET", "/v1/loadbalancers/a/l7policies/p/l7rules", "/v2.0/lbaas/l7policies/p/rules"),
    ("GET", "/v1/quotas", "/v2.0/lbaas/quotas"),
])
def test_version_1_is_gone(world, verb, path, place):
    answer = world.call(verb, path, root="")
    assert answer.status_code == 410
    assert answer.json == {
        "code": 410, "title": "Gone",
        "description": f"Version 1 of this API is gone since 2019; the same is at {place} now."}


def test_what_never_was_is_still_not_found(world):
    assert world.call("GET", "/v1/loadbalancersets", root="").status_code == 404
