# SPDX-License-Identifier: Apache-2.0
"""Runs in the peer's environment: amphorae's heartbeats, in the peer's own envelope, to its health manager.

Reads one JSON object: `port`, `key`, `rounds`, `per_second` and `amphorae`, each with the ids of an amphora, its
listener, pool and member.
"""

import json
import socket
import sys
import time

from octavia.amphorae.backends.health_daemon import status_message


def heartbeat(ids: dict[str, str], sequence: int) -> dict[str, object]:
    """One that differs from the last in its totals."""
    stats = {"tx": 1000 * sequence, "rx": 500 * sequence, "conns": 1, "totconns": sequence, "ereq": 0}
    return {
        "id": ids["amphora"], "seq": sequence, "ver": 2,
        "listeners": {ids["listener"]: {"status": "OPEN", "stats": stats}},
        "pools": {f"{ids['pool']}:{ids['listener']}": {"status": "UP", "members": {ids["member"]: "UP"}}},
    }


def main() -> None:
    wanted = json.load(sys.stdin)
    pause = 1 / wanted["per_second"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        for sequence in range(1, wanted["rounds"] + 1):
            for ids in wanted["amphorae"]:
                message = status_message.wrap_envelope(heartbeat(ids, sequence), wanted["key"])
                door.sendto(message, ("127.0.0.1", wanted["port"]))
                time.sleep(pause)


if __name__ == "__main__":
    main()
