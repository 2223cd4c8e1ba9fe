# SPDX-License-Identifier: Apache-2.0
"""A WSGI application that answers every request with the bytes of the file BARE_ANSWER and does nothing else."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ANSWER = Path(os.environ["BARE_ANSWER"]).read_bytes()
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))]


def application(_environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    start("200 OK", HEADERS)
    return [ANSWER]
