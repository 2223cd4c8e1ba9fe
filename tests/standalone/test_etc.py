# SPDX-License-Identifier: Apache-2.0
"""The files for operators: the sample configuration can be read, the units start what is installed."""

import re
import tomllib
from pathlib import Path

import pytest
from oslo_config import cfg

from statera.config import load

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted((ROOT / "etc" / "systemd").glob("*.service"))


def test_the_sample_configuration_can_be_read() -> None:
    settings = load(cfg.ConfigOpts(), [], prog="test", files=[str(ROOT / "etc/octavia/octavia.conf")])
    assert settings.agent.endpoints == ["hm1.example.org:5555", "hm2.example.org:5555"]
    assert settings.api_settings.auth_strategy == "keystone"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_an_installed_command(unit: Path) -> None:
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    [started] = re.findall(r"^ExecStart=/usr/local/bin/(\S+)", unit.read_text(), re.MULTILINE)
    assert started in commands


def test_every_service_has_a_unit_and_those_with_a_data_plane_leave_it_alone() -> None:
    names = {unit.stem for unit in UNITS}
    assert names == {"octavia-api", "octavia-worker", "octavia-health-manager", "octavia-housekeeping",
                     "octavia-driver-agent",
                     "statera-agent", "statera"}
    for name in ("statera-agent", "statera"):
        assert "KillMode=process" in (ROOT / f"etc/systemd/{name}.service").read_text()
