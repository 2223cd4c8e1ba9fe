# SPDX-License-Identifier: Apache-2.0
"""Which regular expressions HAProxy takes, as its own library says it."""

import random
import re
import shutil
import subprocess

import pytest

from statera.render import regex

GOOD = [r"a.*z", r"(?P<x>a)(?P=x)", r"^/\d{3}\s*;$", "[[:alpha:]]", "x{,3}", r"\101", "(?i)é", ""]
BAD = [r"(a)\1", "x{70000}", r"(a)?(?(1)b)", r"\N{BULLET}", r"\u0061", "[[:nope:]]", "(?a)a", "(", "a**", "[z-a]"]


@pytest.mark.parametrize("text", GOOD)
def test_what_haproxy_takes_has_no_fault(text):
    assert regex.fault(text) == ""


@pytest.mark.parametrize("text", BAD)
def test_what_haproxy_refuses_has_a_fault_that_says_where(text):
    assert " at position " in regex.fault(text)


@pytest.mark.parametrize("text", [r"(.)\1", r"\N{BULLET}", r"\\\u0061", r"\U00000061"])
def test_without_the_library_the_known_differences_are_still_faults(text):
    assert regex._known_fault(text).startswith("HAProxy does not know \\")
    assert regex._known_fault(r"\\N\\1\101a.*z") == ""


PIECES = (
    "a", ".", "*", "+", "?", "|", "(", ")", "(?:", "(?P<n>", "(?P=n)", "[", "]", "^", "$", "{2}", "{,", "{65536}", "}",
    "\\1", "\\d", "\\Q", "\\E", "\\x{100}", "\\p{L}", "(?<=", "(?i)", "(*", "\\", "é")
MADE = ["".join(DICE.choices(PIECES, k=DICE.randint(1, 6))) for DICE in [random.Random(2)] for _ in range(300)]


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy")
def test_haproxy_and_the_library_agree(tmp_path):
    texts = dict(enumerate([*GOOD[:-1], *BAD, *MADE]))
    bad = [number for number, text in texts.items() if regex.fault(f"(?:){text}")]
    assert len(texts) // 5 < len(bad) < len(texts) * 4 // 5
    assert refused(tmp_path, {number: text for number, text in texts.items() if number not in bad}) == set()
    # It gives up after some errors.
    for few in (bad[start:start + 15] for start in range(0, len(bad), 15)):
        assert refused(tmp_path, {number: texts[number] for number in few}) == set(few)


def refused(folder, texts):
    """Those that HAProxy cannot read from files, as agents write them."""
    for number, text in texts.items():
        (folder / f"{number}.acl").write_text(f" (?:){text}\n")
    acls = "".join(f"    acl a{number} path -m reg -f {folder}/{number}.acl\n" for number in texts)
    config = folder / "haproxy.cfg"
    config.write_text(f"frontend f\n    mode http\n    bind 127.0.0.1:1\n    timeout client 1s\n{acls}")
    told = subprocess.run(["haproxy", "-c", "-f", config], capture_output=True)
    return {int(number) for number in re.findall(rb"/(\d+)[.]acl", told.stderr)}
