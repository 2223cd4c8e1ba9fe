# SPDX-License-Identifier: Apache-2.0
"""The version document: what was added when, for clients that look before they ask."""

import re
from typing import Any

import falcon

from statera.api.faults import Retired
from statera.api.handlers import respond

DATES = (
    "2016-12-11", "2018-04-20", "2018-07-31", "2018-12-18", "2018-12-19", "2019-01-21", "2019-01-25",
    "2018-01-25T12:00:00Z", "2019-02-12", "2019-03-04", "2019-03-05", "2019-06-24", "2019-09-11", "2019-09-13",
    "2019-11-10", "2020-03-10", "2020-03-15", "2020-04-29", "2020-04-29T01:00:00Z", "2020-05-12", "2020-08-02",
    "2020-09-03", "2020-09-04", "2020-09-07", "2020-10-15", "2021-10-02", "2022-08-29", "2023-05-05", "2023-11-08",
    "2024-10-15", "2025-02-26",
)
"""When v2.0, v2.1 … came; v2.7's date lies before v2.6's, as published."""


def document(base: str) -> dict[str, Any]:
    """All versions; *base* is the URL of the root, ending in a slash."""
    last = len(DATES) - 1
    return {"versions": [
        {
            "id": f"v2.{minor}",
            "status": "CURRENT" if minor == last else "SUPPORTED",
            "updated": date if "T" in date else f"{date}T00:00:00Z",
            "links": [{"href": f"{base}v2", "rel": "self"}],
        } for minor, date in enumerate(DATES)
    ]}


KEY_MANAGER = {"versions": [{"id": "v1", "status": "stable"}]}
"""For `openstack secret`, which finds Statera's own secret store at the same root and names what it wants there."""


class Versions:
    """GET /."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        service = (request.get_header("OpenStack-API-Version") or "").partition(" ")[0]
        respond(response, KEY_MANAGER if service == "key-manager" else document(f"{request.prefix.rstrip('/')}/"))

    def on_head(self, request: falcon.Request, response: falcon.Response) -> None:
        self.on_get(request, response)


NESTED = {"members": "members", "l7rules": "rules"}
RENAMED = {"healthmonitor": "healthmonitors"}
FIRST_VERSION = re.compile(r"/v1/(loadbalancers|quotas)(/.*)?$")
"""Paths of version 1; others below /v1 belong to the secret store."""


def place_in_v2(path: str) -> str:
    """Where version 2 has what version 1 had at *path*."""
    words = path.strip("/").split("/")[1:]
    pairs = [(RENAMED.get(name, name), *words[index + 1:index + 2]) for index, name in list(enumerate(words))[::2]]
    kept = pairs[-2:] if pairs[-1][0] in NESTED else pairs[-1:]
    return "/v2.0/lbaas/" + "/".join(NESTED.get(word, word) for pair in kept for word in pair)


def retired(req: falcon.Request, resp: falcon.Response, **_path: str) -> None:
    """Whatever is asked of version 1."""
    raise Retired(place_in_v2(req.path))


class Mark:
    """GET of a bare root: only to be there."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        respond(response, "v2")
