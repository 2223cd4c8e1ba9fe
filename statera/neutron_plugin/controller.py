# SPDX-License-Identifier: Apache-2.0
"""Takes every request below /v2.0/lbaas out of Neutron's hands, whatever its verb and path."""

from typing import Any

import pecan
from webob import Response

from statera.neutron_plugin.forwarding import Forward


class Lbaas:
    """A controller that Neutron's hooks pass over, since it names no resource of Neutron's."""

    resource = collection = None

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    @pecan.expose()
    def _default(self, *_path: str, **_query: Any) -> Response:
        request = pecan.request
        answer = self._forward(
            request.method, request.path, query=request.query_string, body=request.body, headers=dict(request.headers))
        return Response(
            body=answer.body, status=answer.status, headerlist=[*answer.headers.items()], charset=None)
