# SPDX-License-Identifier: Apache-2.0
"""Each line of a log names its request, in JSON and in plain text, whichever thread or task writes it."""

import asyncio
import json
import subprocess
import sys

from statera import trace

SCRIPT = """
import logging, sys, threading
from statera import trace
from statera.commands import start
start.configure("octavia-api", sys.argv[1:])
log = logging.getLogger("statera.test")
log.warning("before")
trace.follow("req-1")
log.warning("of %s", "one")
other = threading.Thread(target=lambda: log.warning("another thread"))
other.start(); other.join()
trace.follow(None)
log.warning("after")
"""


def said(tmp_path, *options):
    (tmp_path / "octavia.conf").write_text("[DEFAULT]\n" + "".join(f"{option}\n" for option in options))
    done = subprocess.run([sys.executable, "-c", SCRIPT, "--config-file", str(tmp_path / "octavia.conf")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def test_json_lines_name_the_request(tmp_path):
    lines = [json.loads(line) for line in said(tmp_path, "use_json = true")]
    assert [(line["message"], line["context"].get("request_id")) for line in lines] == [
        ("before", None), ("of one", "req-1"), ("another thread", None), ("after", None)]


def test_plain_lines_name_the_request(tmp_path):
    lines = said(tmp_path)
    assert "req-1" in lines[1]
    assert lines[1].endswith("of one")
    assert not any("req-1" in line for line in (lines[0], *lines[2:]))


def test_tasks_do_not_mix_requests_up():
    async def one(id, seen):
        trace.follow(id)
        await asyncio.sleep(0)
        seen[id] = trace._request.get()

    async def story():
        seen = {}
        await asyncio.gather(*(one(f"req-{number}", seen) for number in range(5)))
        return seen

    before = trace._request.get()
    assert all(id == found for id, found in asyncio.run(story()).items())
    assert trace._request.get() == before
