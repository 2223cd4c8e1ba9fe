# SPDX-License-Identifier: Apache-2.0
"""What a reader of figures has to know about the machine that they were taken on."""

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def facts(**programs: Sequence[str]) -> dict[str, str]:
    """The machine now; *programs* are commands that tell their version."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processors": f"{len(os.sched_getaffinity(0))} × {cpu}",
        "memory": f"{int(memory.split()[1]) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **{name: _version(argv) for name, argv in programs.items()},
    }


def line(said: Mapping[str, str]) -> str:
    return "; ".join(f"{what} {fact}" for what, fact in said.items())


def _version(argv: Sequence[str]) -> str:
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]
