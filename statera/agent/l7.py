# SPDX-License-Identifier: Apache-2.0
"""Which runtime commands bring the L7 policies of a running HAProxy to what they should be."""

import re
from collections.abc import Iterator

from msgspec.structs import replace

from statera.render import l7
from statera.render.l7 import Test
from statera.wire import L7PolicySpec, ListenerSpec, Spec


def overlay(loaded: ListenerSpec, new: ListenerSpec) -> ListenerSpec:
    """*new* with the policies and pools that only *loaded* has, the policies at rest.

    If policies changed places nothing is laid over: only a reload moves them.
    """
    pools = tuple(dict.fromkeys([*loaded.redirect_pool_ids, *new.redirect_pool_ids]))
    return replace(new, l7policies=merged(loaded.l7policies, new.l7policies), redirect_pool_ids=pools)


def merged(loaded: tuple[L7PolicySpec, ...], new: tuple[L7PolicySpec, ...]) -> tuple[L7PolicySpec, ...]:
    by_id = {policy.id: policy for policy in new}
    kept = tuple(by_id.get(policy.id) or replace(policy, enabled=False) for policy in loaded)
    return kept if [policy for policy in kept if policy.id in by_id] == list(new) else new


def commands(old: Spec, new: Spec) -> Iterator[str]:
    """From *old* to *new*, which differ in values only."""
    yield from pattern_commands(l7.tests(old), l7.tests(new))
    before, after = l7.verdicts(old), l7.verdicts(new)
    for file, table in after.items():
        yield from map_commands(f"{l7.FOLDER}/{file}", before.get(file, {}), table)


def is_unsure(old: Spec | None, new: Spec) -> bool:
    """Whether there is something new that only HAProxy itself knows to be right: a regular expression."""
    known = l7.tests(old) if old else {}
    return any(made.method == "reg" and made != known.get(file) for file, made in l7.tests(new).items())


def pattern_commands(before: dict[str, Test], after: dict[str, Test]) -> Iterator[str]:
    """While both patterns are there a request is judged as before or as after, never otherwise."""
    for file, made in after.items():
        if made != before[file]:
            yield f"add acl {l7.FOLDER}/{file} {word(made.pattern or '')}"
            yield f"del acl {l7.FOLDER}/{file} {word(before[file].pattern or '')}"


def map_commands(file: str, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for policy_id in [*after, *(known for known in before if known not in after)]:
        if policy_id not in after:
            yield f"del map {file} {policy_id}"
        elif policy_id not in before:
            yield f"add map {file} {policy_id} {word(after[policy_id])}"
        elif before[policy_id] != after[policy_id]:
            yield f"set map {file} {policy_id} {word(after[policy_id])}"


def word(text: str) -> str:
    r"""One word of a command. HAProxy takes what follows a backslash as it is."""
    return re.sub(r"[\\\s;<]", r"\\\g<0>", text)
