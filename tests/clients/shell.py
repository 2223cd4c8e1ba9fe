# SPDX-License-Identifier: Apache-2.0
"""The `openstack` command, many times: a JSON list of words comes in, what it printed goes out.

The modules are loaded once; each command runs in a process of its own, as the command keeps its clients.
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

from openstackclient.shell import OpenStackShell


def run(words: list[str]) -> tuple[object, str, str]:
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        try:
            status = OpenStackShell().run(words)
        except SystemExit as ended:  # the parser's way to complain
            status = ended.code
    return status, said.getvalue(), complained.getvalue()


for warm in ("loadbalancer create", "network create", "project show"):
    run([*warm.split(), "--help"])
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        print(json.dumps(run(json.loads(line))), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
