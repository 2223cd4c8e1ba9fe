# SPDX-License-Identifier: Apache-2.0
"""The WSGI application: every route in one table, wrapped by request ids, the Accept rule and identity."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Any
from uuid import uuid4

import falcon
import msgspec
from oslo_config import cfg
from oslo_middleware import cors, http_proxy_to_wsgi

from statera import metrics, trace
from statera.api import faults, log_targets, measurements, outlook, page, resizing, rules, summaries
from statera.api.acts import Service
from statera.api.faults import NotAcceptable, NothingThere, Plain, TooLarge
from statera.api.handlers import Child, Collection, Item
from statera.api.healthcheck import HealthCheck
from statera.api.outlook import Forecast
from statera.api.policy import Policy
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
    providers,
    quotas,
)
from statera.api.versions import FIRST_VERSION, Mark, Versions, retired
from statera.api.waiting import PatientItem
from statera.config import Settings
from statera.drivers.protocols import Network, Secrets
from statera.drivers.provider.registry import Drivers
from statera.errors import SetupError
from statera.store.engine import Store
from statera.store.secrets import Sealer

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
App = Any
Mount = Callable[[App], None]

ROOTS = ("/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0")
"""The spellings of every resource's path; amphorae have their own."""
AMPHORA_ROOTS = ("/v2/octavia", "/v2.0/octavia")
FOREIGN = "/network"
"""Below this another API is mounted, with rules of its own."""


def routes(service: Service, forecast: Forecast | None = None) -> list[tuple[str, object]]:
    """Paths below the roots, and who answers."""
    return [
        *_tree(service, loadbalancers.CHILD, loadbalancers.LoadBalancers, PatientItem),
        *_tree(service, listeners.CHILD),
        *_tree(service, pools.CHILD),
        *_tree(service, healthmonitors.CHILD),
        *_tree(service, l7policies.CHILD),
        *_tree(service, members.CHILD, members.Members, below="/pools/{id}"),
        *_tree(service, l7rules.CHILD, below="/l7policies/{id}"),
        ("/loadbalancers/{id}/failover", summaries.Failover(service)),
        ("/loadbalancers/{id}/flavor", resizing.Resize(service)),
        *((f"/loadbalancers/{{id}}/{word}", summaries.Look(
            service, loadbalancers.CHILD, "get_status", summaries.status_tree)) for word in ("status", "statuses")),
        ("/loadbalancers/{id}/events", outlook.Events(service)),
        ("/loadbalancers/{id}/log_target", log_targets.LogTarget(service)),
        ("/loadbalancers/{id}/limits", summaries.Look(
            service, loadbalancers.CHILD, "get_one", log_targets.limits_of)),
        *([("/loadbalancers/{id}/plan", outlook.Plan(service, forecast))] if forecast else []),
        ("/loadbalancers/{id}/stats", summaries.Look(
            service, loadbalancers.CHILD, "get_stats", summaries.lb_statistics)),
        ("/listeners/{id}/stats", summaries.Look(
            service, listeners.CHILD, "get_stats", summaries.listener_statistics)),
        ("/metrics", measurements.Measurements(service)),
        *providers.routes(service),
        *catalogue.routes(service),
        *quotas.routes(service),
    ]


def _tree(
    service: Service, child: Child, collection: type[Collection] = Collection, item: type[Item] = Item, *,
    below: str = "",
) -> list[tuple[str, object]]:
    path, key = f"{below}/{child.kind.plural}", "child_id" if below else "id"
    return [(path, collection(service, child)), (f"{path}/{{{key}}}", item(service, child))]


def build(
    settings: Settings, conf: cfg.ConfigOpts, store: Store, network: Network, *, mounts: Sequence[Mount] = (),
    secrets: Secrets | None = None, sealer: Sealer | None = None, forecast: Forecast | None = None,
) -> Wsgi:
    """The whole application; without *secrets* no certificate can be had, without *sealer* none is kept for
    nodes, without *forecast* no plan is seen.

    Raise `SetupError` for an unknown auth_strategy or defaults that contradict rules.
    """
    strategy = settings.api_settings.auth_strategy
    if strategy not in IDENTITY:
        raise SetupError(f"[api_settings] auth_strategy = {strategy} is not one of {', '.join(IDENTITY)}")
    if bad := rules.bad_defaults(settings.api_settings):
        raise SetupError(f"[api_settings] {'; '.join(bad)}")
    service = Service(settings, store, network, Policy(conf, everyone_is_admin=strategy == "noauth"), secrets, sealer,
                      Drivers(conf.config_file or ()))
    app: Wsgi = IDENTITY[strategy](application(service, mounts=mounts, forecast=forecast), settings, conf)
    return front(_edged(app, conf), largest_body=settings.api_settings.max_request_body_size)


def _edged(app: Wsgi, conf: cfg.ConfigOpts) -> Wsgi:
    """With oslo.middleware's proxy headers and CORS, where they are configured."""
    conf.register_opts(http_proxy_to_wsgi.OPTS, group="oslo_middleware")
    conf.register_opts(cors.CORS_OPTS, group="cors")
    if conf.oslo_middleware.enable_proxy_headers_parsing:
        app = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    if conf.cors.allowed_origin:
        app = cors.CORS(app, conf)
    return app


def application(service: Service, *, mounts: Sequence[Mount] = (), forecast: Forecast | None = None) -> App:
    app = falcon.App(middleware=[Traced()])
    app.req_options.strip_url_path_trailing_slash = True
    faults.install(app)
    app.add_route("/", Versions())
    app.add_sink(retired, prefix=FIRST_VERSION)
    for path in ("/v2", "/v2.0", "/v2/lbaas", "/v2.0/lbaas", "/v2/octavia"):
        app.add_route(path, Mark())
    if service.settings.api_settings.healthcheck_enabled:
        app.add_route("/healthcheck", HealthCheck(service))
    rooted = ((ROOTS, routes(service, forecast)), (AMPHORA_ROOTS, amphorae.routes(service)))
    for roots, below in rooted:
        for path, responder in below:
            for root in roots:
                app.add_route(root + path, responder)
    for path, responder in page.routes([route for _, below in rooted for route in below]):
        app.add_route(path, responder)
    for mount in mounts:
        mount(app)
    return app


# Identity.

PUBLIC = ("/", "/healthcheck", FOREIGN, f"{FOREIGN}/", *page.PATHS)
OPEN_PATHS = ("", *PUBLIC, "/load-balancer", *(f"/load-balancer{path}" for path in PUBLIC))
"""What is answered without credentials, also where the deployment mounts the API below /load-balancer."""


def _keystone(app: Wsgi, _settings: Settings, conf: cfg.ConfigOpts) -> Wsgi:
    from keystonemiddleware import auth_token  # a third of a second of work, only where there is Keystone

    protected: Wsgi = auth_token.AuthProtocol(app, {"oslo_config_config": conf})

    def choose(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return (app if path in OPEN_PATHS else protected)(environ, start_response)

    return choose


def _basic(app: Wsgi, settings: Settings, _conf: cfg.ConfigOpts) -> Wsgi:
    from statera.api.standalone.users import BasicAuth  # only installations without Keystone need bcrypt

    protected: Wsgi = BasicAuth(app, settings.api_settings.users_file, open_paths=OPEN_PATHS)
    return protected


def _as_sent(app: Wsgi, _settings: Settings, _conf: cfg.ConfigOpts) -> Wsgi:
    return app


IDENTITY: dict[str, Callable[[Wsgi, Settings, cfg.ConfigOpts], Wsgi]] = {
    "keystone": _keystone, "basic": _basic, "noauth": _as_sent, "testing": _as_sent,
}
"""What stands before the application, by auth_strategy: it sets the headers that `api.identity` reads."""


# The front.


def front(app: Wsgi, *, largest_body: int) -> Wsgi:
    """Give each request an id that its answer bears, and refuse before all else what nobody could answer."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["statera.request_id"] = request_id = f"req-{uuid4()}"
        trace.follow(request_id)
        environ["statera.seen"] = seen = dict[str, str]()
        began = perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            seconds = perf_counter() - began
            metrics.REQUESTS.labels(environ["REQUEST_METHOD"], route_of(seen), status[:3]).observe(seconds)
            return start_response(status, [*_typed(headers), ("x-openstack-request-id", request_id)], *rest)

        refusal = refused(environ, largest_body=largest_body)
        return app(environ, start) if refusal is None else _plain(refusal, start)

    return answer


class Traced:
    """Leaves word of which route answers, for whoever wraps the application."""

    def process_resource(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _params: object
    ) -> None:
        request.env["statera.seen"]["route"] = request.uri_template


@cache
def plain_route(template: str) -> str:
    """The route below its root, whichever spelling of that was used."""
    root = next((root for root in (*AMPHORA_ROOTS, *ROOTS) if template.startswith(f"{root}/")), "")
    return template.removeprefix(root)


def route_of(seen: Mapping[str, str]) -> str:
    """Which route answered, as metrics name it; `other` for what never came to one."""
    return plain_route(seen.get("route") or "other")


def refused(environ: dict[str, Any], *, largest_body: int) -> Plain | None:
    """Why the request gets no further than here; a body of unknown length is read, and its length then known."""
    if not takes_json(environ):
        return NotAcceptable()
    if "\0" in environ.get("PATH_INFO", ""):
        return NothingThere()
    if environ.get("HTTP_TRANSFER_ENCODING") and not environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(largest_body + 1)
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
    length = environ.get("CONTENT_LENGTH") or "0"
    return TooLarge(largest_body) if length.isdigit() and int(length) > largest_body else None


def _plain(refusal: Plain, start: Callable[..., Any]) -> Iterable[bytes]:
    body = msgspec.json.encode(faults.document(refusal))
    length = ("Content-Length", str(len(body)))
    start(f"{refusal.status.value} {refusal.title}", [("Content-Type", falcon.MEDIA_JSON), length])
    return [body]


def _typed(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers; an empty answer has no Content-Type, which Falcon gives to all but 204."""
    if ("content-length", "0") not in headers:
        return headers
    return [header for header in headers if header[0].lower() != "content-type"]


def takes_json(environ: dict[str, Any]) -> bool:
    """Whether the Accept header admits JSON; a missing or unreadable one does."""
    accept, path = environ.get("HTTP_ACCEPT", ""), environ.get("PATH_INFO", "")
    if not accept or accept == "*/*" or falcon.MEDIA_JSON in accept:
        return True
    if path.startswith((FOREIGN, "/healthcheck", "/docs")):
        return True
    try:
        return falcon.mediatypes.quality(falcon.MEDIA_JSON, accept) > 0
    except ValueError:
        return True
