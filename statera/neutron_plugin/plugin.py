# SPDX-License-Identifier: Apache-2.0
"""The service plugin: reads neutron.conf, neutron_lbaas.conf and services_lbaas.conf for where to pass things on."""

import os
from collections.abc import Callable, Iterable

from keystoneauth1 import loading
from neutron.api import extensions
from neutron_lib.services import base
from oslo_config import cfg
from oslo_log import log

from statera.neutron_plugin.forwarding import Forwarding

LOG = log.getLogger(__name__)
PLUGIN_TYPE = "LOADBALANCERV2"
BESIDE = ("neutron_lbaas.conf", "services_lbaas.conf")
"""Read wherever they lie beside neutron-server's own files, as they always were."""
OPTIONS = [cfg.StrOpt("base_url", default="http://127.0.0.1:9876", help="URL of the load-balancing API.")]

extensions.append_api_extensions_path([os.path.join(os.path.dirname(__file__), "extensions")])


class Plugin(base.ServicePluginBase):
    """What `service_plugins = router,statera_lbaas` loads."""

    supported_extension_aliases = ["lbaasv2"]

    def __init__(self) -> None:
        super().__init__()
        conf = configuration(cfg.CONF.config_file or ())
        self.forward = Forwarding(conf.octavia.base_url, service_token(conf))
        LOG.info("/v2.0/lbaas is answered by %s", conf.octavia.base_url)

    @classmethod
    def get_plugin_type(cls) -> str:
        return PLUGIN_TYPE

    def get_plugin_description(self) -> str:
        return "Passes /v2.0/lbaas on to the load-balancing service"


def configuration(files: Iterable[str]) -> cfg.ConfigOpts:
    """What these files say, and those of `BESIDE` in their folders, the later ones counting."""
    named = list(dict.fromkeys(files))
    folders = dict.fromkeys(os.path.dirname(file) for file in named)
    beside = [os.path.join(folder, name) for folder in folders for name in BESIDE]
    conf = cfg.ConfigOpts()
    conf.register_opts(OPTIONS, group="octavia")
    conf([], project="neutron", default_config_files=[
        *named, *(file for file in beside if file not in named and os.path.exists(file))], default_config_dirs=[])
    return conf


def service_token(conf: cfg.ConfigOpts) -> Callable[[], str | None]:
    """Gives a token of [service_auth], None where that says nobody, or Keystone does not answer."""
    group = "service_auth"
    loading.register_auth_conf_options(conf, group)
    loading.register_session_conf_options(conf, group)
    auth = loading.load_auth_from_conf_options(conf, group)
    if auth is None:
        return lambda: None
    session = loading.load_session_from_conf_options(conf, group, auth=auth)

    def token() -> str | None:
        try:
            found: str | None = session.get_token()
        except Exception as error:  # keystoneauth, and whatever plugin it loads, raise anything
            LOG.warning("no token of [service_auth] can be had: %s", error)
            return None
        return found

    return token
