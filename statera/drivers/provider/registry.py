# SPDX-License-Identifier: Apache-2.0
"""Drivers of other providers: loaded unmodified by name, called one at a time, their refusals in the API's words."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from octavia_lib.api.drivers import exceptions as lib
from oslo_config import cfg
from oslo_log import log
from stevedore import driver as stevedore
from stevedore.exception import NoMatches

from statera.drivers.protocols import Vip, VipRequest
from statera.errors import ApiError, ProviderCannot, ProviderFailed, ProviderMissing, ProviderUnsupported, VipConflict

LOG = log.getLogger(__name__)
NAMESPACE = "octavia.api.drivers"
CANNOT = (lib.NotImplementedError, NotImplementedError)
NO_METHOD = "This feature is not implemented by the provider."


class Drivers:
    """Those of this process, each made when it is first needed.

    *config_files* are Statera's own: drivers read their options from oslo.config's global object.
    """

    def __init__(self, config_files: Sequence[str] = ()) -> None:
        self._config_files = list(config_files)
        self._lock = threading.Lock()
        self._made: dict[str, Driver] = {}

    def get(self, name: str) -> "Driver":
        """The driver that the name stands for. Raise `ProviderMissing` when it cannot be loaded."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: str) -> "Driver":
        if not self._made:
            cfg.CONF([], project="octavia", default_config_files=self._config_files)
        try:
            made: Any = stevedore.DriverManager(NAMESPACE, name, invoke_on_load=True).driver
        except NoMatches:
            raise ProviderMissing(name) from None
        except Exception as error:  # whatever somebody else's constructor raises
            LOG.exception("provider %s: its driver cannot be made", name)
            raise ProviderMissing(name) from error
        return Driver(name, made)


class Driver:
    """One driver of octavia-lib; its calls come one after another, so that it gets them in the order of the wishes."""

    def __init__(self, name: str, driver: Any) -> None:
        self.name, self._driver = name, driver
        self._turn = threading.Lock()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the driver answers. Raise an `ApiError` for anything it raises.

        Drivers need not bear to be told the same twice, so nobody repeats a call by himself.
        """
        with self._turn, self._translated():
            return getattr(self._driver, method)(*arguments)

    def vip(self, request: VipRequest, *, qos_policy_id: str | None, group_ids: Sequence[str]) -> Vip | None:
        """The VIP port that the driver made; None when it leaves that to the network driver."""
        main, *others = request.addresses
        wanted = {
            "vip_address": main.ip_address, "vip_network_id": request.network_id, "vip_port_id": request.port_id,
            "vip_subnet_id": main.subnet_id, "vip_qos_policy_id": qos_policy_id, "vip_sg_ids": list(group_ids),
        }
        more = [{"ip_address": each.ip_address, "network_id": request.network_id, "port_id": None,
                 "subnet_id": each.subnet_id} for each in others]
        try:
            made, additional = self.call("create_vip_port", request.load_balancer_id, request.project_id, wanted, more)
        except ProviderCannot:
            return None
        return _vip(made, additional or [], request)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ApiError:
            raise
        except lib.Conflict as error:
            raise VipConflict(_said(error)) from error
        except CANNOT as error:
            raise ProviderCannot(self.name, getattr(error, "user_fault_string", NO_METHOD)) from error
        except lib.UnsupportedOptionError as error:
            raise ProviderUnsupported(self.name, _said(error)) from error
        except Exception as error:  # somebody else's code: whatever it raises is its failure, not ours
            LOG.exception("provider %s: %s", self.name, getattr(error, "operator_fault_string", error))
            raise ProviderFailed(self.name, _said(error)) from error


def _said(error: Exception) -> str:
    return str(getattr(error, "user_fault_string", error))


def _vip(made: Mapping[str, Any], additional: Sequence[Mapping[str, Any]], request: VipRequest) -> Vip:
    main = request.addresses[0]
    return Vip(
        port_id=made["vip_port_id"], network_id=made.get("vip_network_id") or request.network_id,
        addresses=(
            (made.get("vip_subnet_id") or main.subnet_id, made["vip_address"]),
            *((each["subnet_id"], each["ip_address"]) for each in additional),
        ),
        additional_port_ids=tuple(each["port_id"] for each in additional),
    )
