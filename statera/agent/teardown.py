# SPDX-License-Identifier: Apache-2.0
"""Remove amphorae from this host: processes, namespaces, legs, bridges, control groups and files."""

import shutil
from pathlib import Path

import msgspec

from statera.agent import bridges, cgroup, isolation, namespace, overlay, process
from statera.agent.files import RUN, Home, homes, networks_file, overlay_file, read
from statera.wire import Interface, LocalNetwork, Overlay, Spec

_networks = msgspec.json.Decoder(tuple[LocalNetwork, ...])
_overlay = msgspec.json.Decoder(Overlay | None)
_spec = msgspec.json.Decoder(Spec)


def teardown(state: Path) -> list[str]:
    """Remove everything that the agent of this state folder made, and say what that was; nothing left is success."""
    done = [line for home in homes(state) for line in demolish(home)]
    done += [f"overlay {name} removed" for name in overlay.remove(stored_networks(state))]
    done += [f"bridge {name} removed" for name in bridges.remove(stored_networks(state))]
    done += ["packet filter removed"] if isolation.remove(state) else []
    for file in (networks_file(state), overlay_file(state)):
        file.unlink(missing_ok=True)
    for folder in (RUN, state / "amphorae"):
        _rmdir_if_empty(folder)
    return done


def demolish(home: Home) -> list[str]:
    """Remove one amphora and say what there was. Blocks while its processes end, seconds at worst."""
    lines = []
    amphora = f"amphora {home.amphora_id}"
    # keepalived hands the VIPs over at once and then lingers for a second for which there is no need.
    ended = process.end(
        {*cgroup.processes(home.amphora_id), *namespace.processes(home.amphora_id)}, patience_seconds=0.5)
    if ended:
        lines.append(f"{amphora}: {len(ended)} processes ended")
    if namespace.remove(home.amphora_id, _legs(home)):
        lines.append(f"{amphora}: namespace removed")
    if cgroup.remove(home.amphora_id):
        lines.append(f"{amphora}: control group removed")
    for folder in (home.run, home.folder):
        if folder.exists():
            shutil.rmtree(folder)
            lines.append(f"{amphora}: {folder} removed")
    return lines


def stored_networks(state: Path) -> tuple[LocalNetwork, ...]:
    """The networks whose bridges this host carries."""
    stored = read(networks_file(state))
    return _networks.decode(stored) if stored else ()


def stored_overlay(state: Path) -> Overlay | None:
    """Which other hosts the networks reach."""
    stored = read(overlay_file(state))
    return _overlay.decode(stored) if stored else None


def _legs(home: Home) -> tuple[Interface, ...]:
    stored = read(home.spec)
    return _spec.decode(stored).interfaces if stored else ()


def _rmdir_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
