# SPDX-License-Identifier: Apache-2.0
"""What a vendor would ship: a package with a driver made against octavia-lib, found by its entry point alone.

It writes down what it is told and answers only when a test says so, over the sockets of the driver agent.
"""

from octavia_lib.api.drivers import exceptions
from octavia_lib.api.drivers.provider_base import ProviderDriver


class Vendor(ProviderDriver):
    """Everything that a load balancer is made of; failover it does not do, and some names it does not like."""

    told = []

    def create_vip_port(self, lb_id, project_id, vip_dict, additional_vip_dicts=None):
        if vip_dict["vip_address"] == "198.51.100.1":
            raise exceptions.Conflict(user_fault_string="somebody has it")
        if vip_dict["vip_address"] == "198.51.100.2":
            raise NotImplementedError
        address = vip_dict["vip_address"] or "198.51.100.9"
        more = [{**each, "port_id": f"more-{lb_id}"[:36], "ip_address": "2001:db8::9"} for each in additional_vip_dicts]
        return {**vip_dict, "vip_port_id": f"vip-{lb_id}"[:36], "vip_address": address}, more

    def get_supported_flavor_metadata(self):
        return {"speed": "How fast it is."}

    def validate_flavor(self, flavor_metadata):
        if set(flavor_metadata) - {"speed"}:
            raise exceptions.UnsupportedOptionError(user_fault_string=f"only speed, not {sorted(flavor_metadata)}")


def _write_down(verb):
    def method(self, *arguments):
        _like(*arguments)
        Vendor.told.append((verb, *arguments))

    return method


def _like(*objects):
    names = [getattr(each, "name", None) for each in objects]
    if "unsupported" in names:
        raise exceptions.UnsupportedOptionError(user_fault_string="that name is not supported")
    if "broken" in names:
        raise exceptions.DriverError(user_fault_string="the box is on fire", operator_fault_string="buy another")
    if "surprise" in names:
        raise ZeroDivisionError("nobody foresaw this")


for _kind in ("loadbalancer", "listener", "pool", "member", "health_monitor", "l7policy", "l7rule"):
    for _verb in ("create", "update", "delete"):
        setattr(Vendor, f"{_kind}_{_verb}", _write_down(f"{_kind}_{_verb}"))
Vendor.member_batch_update = _write_down("member_batch_update")
