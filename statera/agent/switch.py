# SPDX-License-Identifier: Apache-2.0
"""Internal ports of this host's Open vSwitch, which its network agent knows by what stands with them.

That agent, Neutron's, wires a port and filters for it as soon as it bears the id of one of Neutron's (ovs-vsctl(8);
`external_ids` of an interface in ovs-vswitchd.conf.db(5)).
"""

import subprocess
from collections.abc import Iterable

from statera.agent.programs import program
from statera.errors import TryAgain
from statera.wire import Interface

PATIENCE_SECONDS = 5
"""A switch that hangs holds up all amphorae of the host for so long."""


def add(interface: Interface) -> None:
    """Have the port made, and with it its device on the host. One that is known already has lost its own.

    Raise `TryAgain` with what the switch says, `GiveUp` when there is none.
    """
    drop([interface.name])
    marks = {"iface-id": interface.port_id, "iface-status": "active", "attached-mac": interface.mac_address}
    _control(
        "add-port", str(interface.switch), interface.name, "--", "set", "Interface", interface.name, "type=internal",
        *(f'external_ids:{name}="{value}"' for name, value in marks.items()))


def drop(devices: Iterable[str]) -> None:
    """Have no such ports; raises as `add`, unless there are none to drop."""
    words = [word for device in devices for word in ("--", "--if-exists", "del-port", device)]
    if words:
        _control(*words)


def _control(*words: str) -> None:
    done = subprocess.run([program("ovs-vsctl"), f"--timeout={PATIENCE_SECONDS}", *words], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = " ".join(done.stdout.split()) or "no answer"
        raise TryAgain("SWITCH", f"Open vSwitch: {said}; `ovs-vsctl show` lists its ports")
