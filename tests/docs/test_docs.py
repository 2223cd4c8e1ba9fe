# SPDX-License-Identifier: Apache-2.0
"""What the documents tell people to type works as it stands, but for folder and ports; so does the demonstration."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STATE = "/var/lib/statera"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="it makes bridges and namespaces")


def typed(document: Path) -> str:
    """All that the document has one type, in order."""
    return "\n".join(re.findall(r"```sh tutorial\n(.*?)```", document.read_text(), re.DOTALL))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell's environment with a state folder and ports of its own; afterwards nothing is left."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "STATERA_STATE": str(tmp_path / "state"),
        "STATERA_UP_API_BIND": f"127.0.0.1:{free_port()}", "STATERA_UP_HEALTH_BIND": f"127.0.0.1:{free_port()}",
    }
    yield environment
    subprocess.run(["statera", "down", "--purge"], env=environment, capture_output=True, check=False)
    for name in ("web1", "web2"):
        subprocess.run(f"ip netns pids {name} | xargs -r kill; ip netns delete {name}", shell=True,
                       capture_output=True, check=False)


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial.md", "docs/how-to/terminate-tls.md"])
def test_what_the_document_has_one_type_works(document: str, environment: dict[str, str], tmp_path: Path) -> None:
    script = "set -eux -o pipefail\n" + typed(ROOT / document).replace(STATE, environment["STATERA_STATE"])
    said = tmp_path / "said"
    with said.open("w") as output:
        shell = subprocess.Popen(["bash", "-c", script], env=environment, cwd=tmp_path, stdout=output,
                                 stderr=output, start_new_session=True)
        try:
            status = shell.wait(timeout=200)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # servers that it has left in the background
    assert status == 0, said.read_text()
    assert not (tmp_path / "state").exists()


def test_the_demonstration_tells_its_story_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "script" / "demo.py"), "--state", str(tmp_path / "state"),
         "--api-bind", f"127.0.0.1:{free_port()}", "--health-bind", f"127.0.0.1:{free_port()}"],
        capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing is left: no namespace, no link, no process, no file" in done.stdout
