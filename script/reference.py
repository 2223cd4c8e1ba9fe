# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference from the code: `script/reference.py`, or `--check` to say which pages are out of date."""

import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

import msgspec
from oslo_config import cfg

from statera import metrics
from statera.api import app, measurements, openapi, reference
from statera.api.acts import Service
from statera.api.policy import API, BASE, Policy, rules
from statera.api.reference import Call, Section
from statera.api.resources import amphorae
from statera.config import Settings
from statera.drivers.network.noop import NoopNetwork
from statera.store.engine import Store

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WRITTEN = "<!-- Written by script/reference.py; change the tables in the code instead. -->\n\n"


def main() -> int:
    pages = {"api.md": api(), "configuration.md": configuration(), "policy.md": policy(), "metrics.md": measured()}
    stale = [name for name, text in pages.items() if not is_current(FOLDER / name, text)]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/reference/{name} is out of date; run script/reference.py")
        return int(bool(stale))
    for name in stale:
        (FOLDER / name).write_text(pages[name])
        print(f"wrote docs/reference/{name}")
    return 0


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# The API.


def described() -> dict[str, Any]:
    """The document that /openapi.json serves; nothing that a service has is asked for."""
    judge = Policy(cfg.ConfigOpts(), everyone_is_admin=True)
    service = Service(Settings(), Store("sqlite:////dev/null"), NoopNetwork(), judge)
    return openapi.document([*app.routes(service, forecast=lambda _load_balancer_id: []), *amphorae.routes(service)])


def api() -> str:
    document = described()
    return WRITTEN + "# The API\n\n" + document["info"]["description"] + "\n" + (
        "A running API serves this page as `/docs` and as an OpenAPI document, `/openapi.json`.\n\n"
    ) + "\n".join(section(each) for each in reference.sections(document))


def section(found: Section) -> str:
    calls = table(("request", "what it does", "rule", "answers"), map(call, found.calls))
    text = f"## {found.title}\n\n{calls}\n"
    keys = {each.summary: each.query for each in found.calls if each.query}
    text += "".join(f"*{summary}* takes {', '.join(f'`{name}`' for name, _ in query)}.\n\n"
                    for summary, query in keys.items())
    if not found.attributes:
        return text
    return text + table(("attribute", "type", "POST", "PUT", "shown", "meaning"), (
        (f"`{row.name}`", row.type, row.create, row.change, row.shown, row.meaning) for row in found.attributes))


def call(found: Call) -> tuple[str, ...]:
    rule = found.rule.removeprefix("os_load-balancer_api:")
    return f"`{found.verb} {found.path}`", found.summary, f"`{rule}`", ", ".join(found.answers)


# The configuration.


def configuration() -> str:
    parts = [
        "# Configuration\n\n`octavia.conf`, in the folders that oslo.config looks in, or named with `--config-file`. "
        "Options of Octavia that are not listed mean nothing here and are ignored.\n"
    ]
    for group in msgspec.structs.fields(Settings):
        name = "DEFAULT" if group.name == "default" else group.name
        parts.append(f"## [{name}]\n\n" + table(("option", "type", "default", "meaning"), options(group.type)))
    return WRITTEN + "\n".join(parts)


def options(section_type: Any) -> Iterator[tuple[str, ...]]:
    for field in msgspec.structs.fields(section_type):
        kind, texts = unwrapped(field.type)
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        yield f"`{field.name}`", kind, shown(default), " ".join(texts)


def unwrapped(kind: Any) -> tuple[str, list[str]]:
    """The plain type's name, and what is annotated: bounds behind the type, sentences apart."""
    texts: list[str] = []
    bounds = ""
    while typing.get_origin(kind) is Annotated:
        for meta in kind.__metadata__:
            texts += [meta.description] if meta.description else []
            bounds += "".join(f" {sign} {value}" for sign, value in (("≥", meta.ge), ("≤", meta.le), (">", meta.gt))
                              if value is not None)
        kind = typing.get_args(kind)[0]
    plain = typing.get_origin(kind) if isinstance(kind, GenericAlias) else kind
    return plain.__name__ + bounds, texts


def shown(default: Any) -> str:
    if isinstance(default, dict):
        return ", ".join(f"`{key}: {value}`" for key, value in default.items())
    if isinstance(default, (list, tuple)):
        return ", ".join(f"`{value}`" for value in default)
    return f"`{str(default).lower() if isinstance(default, bool) else default}`" if default != "" else ""


# The policy.


def policy() -> str:
    base = ((f"`{name}`", f"`{check}`", f"`{legacy}`" if legacy else "") for name, (check, legacy) in BASE.items())
    actions = ((f"`os_load-balancer_api:{resource}:{action}`", f"`rule:load-balancer:{check}`")
               for resource, checks in API.items() for action, check in checks.items())
    return (
        f"{WRITTEN}# Policy\n\nThe {len(list(rules()))} rules that `policy.yaml` may override. "
        "`oslopolicy-sample-generator --namespace octavia` writes them as a sample file.\n\n"
        "With `[oslo_policy] enforce_new_defaults = false` the older roles count too.\n\n"
        + table(("rule", "check", "or, with the older roles"), base) + "\n" + table(("rule", "check"), actions)
    )



# The metrics.


def measured() -> str:
    """What each service tells, and what a project is told."""
    parts = [WRITTEN, """# Metrics

Each service serves `/metrics` at `[metrics] bind_host` and its own port, which is off by default; see
[watch Statera](../how-to/watch-statera.md).
"""]
    for service, collectors in metrics.SERVICES.items():
        families = [family for each in collectors for family in each.describe()]
        parts += [f"\n## `{service}_port`\n\n", table(("metric", "kind", "labels", "what it says"), [
            (f"`{shown_name(family)}`", family.type, labels_of(each), family.documentation)
            for each, family in zip(collectors, families, strict=True)])]
    parts += ["""
## Looked up in the database

By octavia-worker, octavia-health-manager and octavia-housekeeping when they are asked.

""", table(("metric", "labels", "what it says"), [
        (f"`{name}`", ", ".join(fact.labels), fact.help) for name, fact in metrics.FACTS.items()])]
    parts += ["""
## For projects

At `/v2.0/lbaas/metrics` of the API, with the rights of the list of load balancers.

""", table(("metric", "kind", "labels", "what it says"), [
        (f"`{shown_name(family)}`", family.type, ", ".join(family._labelnames), family.documentation)
        for family in measurements.Told([]).collect()])]
    return "".join(parts)


def shown_name(family: Any) -> str:
    return f"{family.name}{'_total' if family.type == 'counter' else ''}"


def labels_of(collector: Any) -> str:
    return ", ".join(collector._labelnames)


if __name__ == "__main__":
    sys.exit(main())
