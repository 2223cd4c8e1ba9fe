# SPDX-License-Identifier: Apache-2.0
"""Text of users in rules and redirects, whatever it is, is compared and sent exactly as it was written."""

import random

import pytest
from amphora.test_l7 import ask, policy, rule, with_policies
from msgspec.structs import replace

VISIBLE = "".join(map(chr, range(0x21, 0x7f)))
QUOTED = VISIBLE + "  \t"
NASTY = ("#", "# x", "\\", "\\\\", "'", '"', "';\"", "} if TRUE", "${HOME}", "%[src]", "%%", "-f /etc/passwd", "<<",
         ";;", "a\tb", "||", "!{ TRUE }", "-- x", "\\x41", "\\;", "\\ x", "a#b", "*/*", "(", "[a-", "{,", "^", "$1",
         ".", "é")
TRUTHS = {
    "EQUAL_TO": str.__eq__, "STARTS_WITH": str.startswith, "ENDS_WITH": str.endswith, "CONTAINS": str.__contains__}
COUNT = 90


def texts(dice):
    """Texts that header values may have: no blanks at either end, as HTTP drops those."""
    yield from (text for text in NASTY if text.isascii())
    while True:
        yield "".join(dice.choices(QUOTED, k=dice.randint(1, 40))).strip() or "x"


def written(text):
    """As the API wants it: with blanks inside double quotes."""
    return f'"{text}"' if set(text) & set(" \t") or (text[0] == text[-1] == '"' and len(text) > 1) else text


def shown(dice, text):
    """Values that are the text, hold it, or nearly."""
    before, after = ("".join(dice.choices(VISIBLE.replace(",", ""), k=dice.randint(1, 4))) for _ in range(2))
    changed = dice.randrange(len(text))
    other = text[:changed] + dice.choice(VISIBLE.replace(",", "")) + text[changed + 1:]
    return (text, before + text, text + after, before + text + after, other.strip() or "x", text.swapcase())


@pytest.mark.carries("user text, exactly")
def test_random_text_is_compared_exactly(lab, node, serving):
    """Each rule has a policy with the case's own number in a second rule; a comma would make two values of one."""
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    source = texts(dice)
    cases = [(dice.choice([*TRUTHS]), next(source).replace(",", ";")) for _ in range(COUNT)]
    spec = with_policies(serving, *(
        policy(rule("HEADER", compare, written(text), "X-Text"), rule("HEADER", "EQUAL_TO", f"{number}", "X-Case"))
        for number, (compare, text) in enumerate(cases)))
    assert node.put(spec).failure is None
    wrong = []
    for number, (compare, text) in enumerate(cases):
        for value in shown(dice, text):
            denied = ask(lab, X_Text=value, X_Case=str(number))[0] == 403
            if denied != TRUTHS[compare](value, text):
                wrong.append((compare, text, value, denied))
    assert wrong == [], f"seed {seed}"


@pytest.mark.carries("user text, exactly")
def test_random_text_is_sent_exactly(lab, node, serving):
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    alphabet = VISIBLE.replace('"', "")
    targets = [f"https://else.example/{''.join(dice.choices(alphabet, k=dice.randint(1, 60)))}" for _ in range(60)]
    targets += [f"https://else.example/{text}" for text in NASTY if text.isascii() and not set(text) & set(" \t")]
    kinds = [dice.choice(["URL", "PREFIX"]) for _ in targets]
    spec = with_policies(serving, *(
        policy(rule("PATH", "EQUAL_TO", f"/{number}"),
               **({"action": "REDIRECT_TO_URL", "redirect_url": target} if kind == "URL" else
                  {"action": "REDIRECT_PREFIX", "redirect_prefix": target}))
        for number, (kind, target) in enumerate(zip(kinds, targets, strict=True))))
    assert node.put(spec).failure is None
    expected = [(302, target if kind == "URL" else f"{target}/{number}")
                for number, (kind, target) in enumerate(zip(kinds, targets, strict=True))]
    assert [ask(lab, f"/{number}") for number in range(len(targets))] == expected, f"seed {seed}"
    # And by commands, in the same worker.
    moved = [replace(one, **{name: f"{value}!" for name in ("redirect_url", "redirect_prefix")
                             if (value := getattr(one, name))}) for one in spec.listeners[0].l7policies]
    assert node.put(with_policies(spec, *moved, version=9)).how == "runtime"
    expected = [(302, f"{target}!" if kind == "URL" else f"{target}!/{number}")
                for number, (kind, target) in enumerate(zip(kinds, targets, strict=True))]
    assert [ask(lab, f"/{number}") for number in range(len(targets))] == expected, f"seed {seed}"
