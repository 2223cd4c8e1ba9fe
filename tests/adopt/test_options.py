# SPDX-License-Identifier: Apache-2.0
"""octavia.conf of Octavia: what means nothing here is told with what does its work, and nothing stops us."""

import subprocess
import sys
from pathlib import Path

import pytest

from statera.commands.octavia_options import judged

HERE = Path(__file__).parent
CONF = """\
[DEFAULT]
debug = true
transport_url = rabbit://octavia:secret@192.0.2.1:5672/
state_path = {folder}
[api_settings]
bind_host = 127.0.0.1
auth_strategy = noauth
[database]
connection = sqlite:///{folder}/statera.db
[health_manager]
heartbeat_key = insecure
bind_port = 5555
[haproxy_amphora]
server_ca = /etc/octavia/certs/server_ca.cert.pem
connection_max_retries = 1500
[controller_worker]
compute_driver = compute_noop_driver
network_driver = network_noop_driver
amphora_driver = amphora_haproxy_rest_driver
amp_active_retries = 100
[task_flow]
jobboard_enabled = true
[keystone_authtoken]
auth_url = http://192.0.2.1/identity
[octavia]
sync_provisioning_status = true
"""


def run(command: str, config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    code = f"from statera.commands.{command} import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "--config-file", str(config), *words], capture_output=True, text=True, check=False,
        timeout=120)


def test_the_check_tells_what_replaces_octavias_options(tmp_path: Path) -> None:
    config = tmp_path / "octavia.conf"
    config.write_text(CONF.format(folder=tmp_path))
    assert run("db_manage", config, "upgrade", "head").returncode == 0
    checked = run("upgrade_check", config, "upgrade", "check")
    assert checked.returncode == 1, checked.stdout + checked.stderr
    for line in (
        "DEFAULT.transport_url means nothing here: there is no message bus: the database is the queue",
        "health_manager.heartbeat_key means nothing here: agents prove who they are by their certificates",
        "haproxy_amphora.server_ca means nothing here: nothing connects to an amphora: agents dial out",
        "controller_worker.amp_active_retries means nothing here: [nova] connect_seconds",
        "task_flow.jobboard_enabled means nothing here: there are no flows and no job board",
        "octavia.sync_provisioning_status is not known",
    ):
        assert line in checked.stdout
    for kept in ("bind_port", "auth_url", "debug", "compute_driver", "state_path"):
        assert f".{kept} " not in checked.stdout
    assert "compute noop, network noop" in checked.stdout


def test_every_option_of_octavia_has_a_word() -> None:
    names = (HERE / "octavia-19.0.0.options").read_text().split()
    assert len(names) > 300
    assert judged(names)[1] == []


@pytest.mark.parametrize(("name", "words"), [
    ("compute.max_retries", "passes are repeated for ever: [controller_worker] retry_first_seconds, retry_max_seconds"),
    ("haproxy_amphora.build_rate_limit", "[controller_worker] replacements_per_minute and workers"),
])
def test_the_first_pattern_that_fits_counts(name: str, words: str) -> None:
    assert judged([name])[0] == {name: words}
