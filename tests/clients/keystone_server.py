# SPDX-License-Identifier: Apache-2.0
"""Run by the Python that has Keystone: sets up a Keystone in a folder and serves it.

    python keystone_server.py FOLDER PORT
"""

import os
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
# ruff: noqa: E402

from keystone.cmd import cli
from keystone.server.wsgi import initialize_public_application
from werkzeug.serving import run_simple

CONFIGURATION = """
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
"""


def main(folder: Path, port: int) -> None:
    file = folder / "keystone.conf"
    file.write_text(CONFIGURATION.format(folder=folder))
    keys = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    url = f"http://127.0.0.1:{port}/v3"
    for command in (["db_sync"], ["fernet_setup", *keys], ["credential_setup", *keys], [
        "bootstrap", "--bootstrap-password", "secret", "--bootstrap-public-url", url, "--bootstrap-internal-url", url,
        "--bootstrap-admin-url", url, "--bootstrap-region-id", "RegionOne",
    ]):
        manage(["keystone-manage", "--config-file", str(file), *command])
    os.environ |= {"OS_KEYSTONE_CONFIG_DIR": str(folder), "OS_KEYSTONE_CONFIG_FILES": "keystone.conf"}
    sys.argv = sys.argv[:1]
    run_simple("127.0.0.1", port, initialize_public_application(), threaded=True)


def manage(command: list[str]) -> None:
    """Run one command in a process of its own, which needs not import Keystone again. Its settings are global."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            cli.main(command)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{' '.join(command)} failed")


main(Path(sys.argv[1]), int(sys.argv[2]))
