# SPDX-License-Identifier: Apache-2.0
"""The extension `lbaasv2` of Neutron's API: everything below /v2.0/lbaas is somebody else's to answer."""

from neutron.pecan_wsgi.controllers.utils import PecanResourceExtension
from neutron_lib.api import extensions
from neutron_lib.plugins import directory

from statera.neutron_plugin.controller import Lbaas as Controller
from statera.neutron_plugin.plugin import PLUGIN_TYPE


class Lbaas(extensions.ExtensionDescriptor):
    """Neutron finds the class by the module's name."""

    @classmethod
    def get_name(cls) -> str:
        return "Load balancing service"

    @classmethod
    def get_alias(cls) -> str:
        return "lbaasv2"

    @classmethod
    def get_description(cls) -> str:
        return "Load balancers, forwarded to the load-balancing service's own API"

    @classmethod
    def get_updated(cls) -> str:
        return "2026-11-01T00:00:00-00:00"

    @classmethod
    def get_pecan_resources(cls) -> list[PecanResourceExtension]:
        plugin = directory.get_plugin(PLUGIN_TYPE)
        return [PecanResourceExtension("lbaas", Controller(plugin.forward), plugin)] if plugin else []
