# SPDX-License-Identifier: Apache-2.0
"""From a spec to keepalived's configuration: unicast VRRP version 3 between the two of a pair."""

import ipaddress

from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.wire import Spec, VrrpSpec

# Version 3 allows adverts below a second but knows no password: the packet filter admits the peer alone.
# nopreempt: who serves goes on serving, so a returning master does not cause a second switch.
TEMPLATE = """\
global_defs {{
    router_id {router}
    vrrp_version 3
    vrrp_garp_master_refresh 5
    vrrp_garp_master_refresh_repeat 2
{delay}}}
vrrp_track_file fault {{
    file "{fault_file}"
    weight 0
}}
vrrp_instance statera {{
    state BACKUP
    interface {interface}
    virtual_router_id {virtual_router_id}
    priority {priority}
    advert_int {advert}
    nopreempt
    unicast_src_ip {own_ip}
    unicast_peer {{
{peers}
    }}
    track_file {{
        fault
    }}
    virtual_ipaddress {{
{addresses}
    }}
{excluded}}}
"""


def render(spec: Spec, vrrp: VrrpSpec, *, fault_file: str) -> str:
    """The whole file. A *fault_file* that holds something other than 0 makes the peer take over."""
    interface = spec.interfaces[0]
    own = ipaddress.ip_address(interface.addresses[0].ip)
    vips = [ipaddress.ip_address(vip.ip) for vip in spec.vips]
    lines = {
        same: "\n".join(f"        {ip}/{ip.max_prefixlen} dev {interface.name}"
                        for ip in vips if (ip.version == own.version) is same)
        for same in (True, False)
    }
    return TEMPLATE.format(
        router=spec.amphora_id,
        fault_file=fault_file,
        interface=interface.name,
        virtual_router_id=vrrp.router_id,
        priority=vrrp.priority,
        advert=f"{vrrp.advert_seconds:g}",
        own_ip=own,
        delay=f"    vrrp_startup_delay {vrrp.delay_seconds}\n" if vrrp.delay_seconds else "",
        peers="\n".join(f"        {ipaddress.ip_address(peer)}" for peer in vrrp.everyone),
        addresses=lines[True],
        excluded=f"    virtual_ipaddress_excluded {{\n{lines[False]}\n    }}\n" if lines[False] else "",
    )


def vrrp_of(spec: Spec) -> VrrpSpec | None:
    """How the amphora takes part in VRRP; None for one that stands alone."""
    if spec.role is Role.STANDALONE:
        return None
    if spec.vrrp is None:
        raise GiveUp("SPEC_REFUSED", f"amphora {spec.amphora_id} is {spec.role} but its spec says nothing about VRRP")
    return spec.vrrp
