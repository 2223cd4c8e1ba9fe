# SPDX-License-Identifier: Apache-2.0
"""Says which object HAProxy complains about, when it names a line of its configuration."""

import re

PLACE = re.compile(r"\[[^]\s]*haproxy\.cfg(?:\.candidate)?:(\d+)\]")


def named(message: str, file: str) -> str:
    """HAProxy's own words, headed by the listener, pool or member in whose line of *file* the fault is.

    A message that names no line is returned as it is.
    """
    found = PLACE.search(message)
    if found is None:
        return message
    words, *_ = message[found.end():].partition(" config : ")
    return f"{owner(file, int(found[1]))}HAProxy says: {words.strip(' :.')}"


def owner(file: str, line: int) -> str:
    """Whose line it is, with a colon behind; nothing for lines that belong to no object."""
    lines = file.splitlines()[:line]
    heads = [text.split() for text in lines if text[:1].strip()]
    kind, name = heads[-1][:2] if heads and len(heads[-1]) > 1 else ("", "")
    pool, words = name.split(":")[0], lines[-1].split() if lines else []
    if kind == "backend" and words[0] == "server":
        return f"member {words[1]} of pool {pool}: "
    return {"frontend": f"listener {name}: ", "backend": f"pool {pool}: "}.get(kind, "")
