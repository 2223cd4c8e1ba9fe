# SPDX-License-Identifier: Apache-2.0
"""Writes the manual pages in `man` from the commands themselves: `script/man.py`, or `--check` to say which are old."""

import importlib
import re
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from oslo_config import cfg
from oslo_log import log

from statera import __version__
from statera.commands.umbrella import COMMANDS

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "man"
FILES = ("/etc/octavia/octavia.conf", "the configuration; docs/reference/configuration.md tells every option")
SEE = "statera(1), octavia-status(8); https://docs.openstack.org/api-ref/load-balancer/"


def main() -> int:
    pages = dict(written())
    stale = [name for name, text in pages.items() if not is_current(FOLDER / name, text)]
    stale += [f"{path.name} (of no command)" for path in FOLDER.glob("*.[18]") if path.name not in pages]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"man/{name} is out of date; run script/man.py")
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name in pages.keys() & set(stale):
        (FOLDER / name).write_text(pages[name])
        print(f"wrote man/{name}")
    return 0


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def written() -> Iterator[tuple[str, str]]:
    """Every page by its file's name."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, place in scripts.items():
        if name == "statera":
            yield from umbrella()
        else:
            module = importlib.import_module(place.partition(":")[0])
            yield f"{name}.8", service(name, module.__doc__ or "", [
                *getattr(module, "OPTIONS", ()), *getattr(module, "JOIN_OPTIONS", ())])


# The umbrella and its commands.


def umbrella() -> Iterator[tuple[str, str]]:
    lines = [line for name, (_, text) in COMMANDS.items() for line in item(f"statera-{name}(1)", text)]
    yield "statera.1", page("statera", 1, "load balancing as a service that speaks OpenStack Octavia's API", {
        "SYNOPSIS": [bold("statera"), italic("COMMAND"), "[options]"],
        "DESCRIPTION": ["Runs and tends load balancing. Each command has a page of its own and tells its options by "
                        + bold("--help") + "."],
        "COMMANDS": lines,
    })
    for name in COMMANDS:
        command = click_command(name)
        yield f"statera-{name}.1", page(f"statera-{name}", 1, first(command), {
            "SYNOPSIS": synopsis(f"statera {name}", command), "DESCRIPTION": paragraphs(command.help or ""),
            **({"COMMANDS": subcommands(f"statera {name}", command)} if isinstance(command, click.Group) else {}),
            "OPTIONS": options(command),
        })


def click_command(name: str) -> click.Command:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    return command


def first(command: click.Command) -> str:
    sentence = (command.help or "").strip().split("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def synopsis(name: str, command: click.Command) -> list[str]:
    words = [italic(each.make_metavar(click.Context(command))) for each in command.params
             if isinstance(each, click.Argument)]
    inner = [italic("COMMAND")] if isinstance(command, click.Group) else []
    return [bold(name), *inner, "[options]", *words]


def subcommands(name: str, group: click.Group) -> list[str]:
    lines: list[str] = []
    for word, command in sorted(group.commands.items()):
        lines += item(f"{name} {word}", " ".join(paragraphs(command.help or "")))
        lines += [".RS", *options(command), ".RE"]
    return lines


def options(command: click.Command) -> list[str]:
    lines: list[str] = []
    for each in command.params:
        if isinstance(each, click.Option) and each.help:
            value = "" if each.is_flag else f" {(each.metavar or each.type.name).upper()}"
            lines += item(", ".join(each.opts) + value, each.help)
    return lines


# Services.


def service(name: str, doc: str, own: Sequence[cfg.Opt]) -> str:
    about = doc.strip().partition("\n")[0].partition(": ")[2].replace("`", "").rstrip(".")
    inner = [line for each in own if isinstance(each, cfg.SubCommandOpt) for line in commands(each)]
    more = [(f"--{each.name} {each.name.upper()}", each.help) for each in own if isinstance(each, cfg.StrOpt)]
    return page(name, 8, about, {
        "SYNOPSIS": [bold(name), *([italic("COMMAND")] if inner else []), "[--config-file", italic("FILE") + "]",
                     "[options]"],
        "DESCRIPTION": [
            plain(f"{about[:1].upper()}{about[1:]}."), plain(f"It reads {FILES[0]} if nothing else is said.")],
        "COMMANDS": inner,
        "OPTIONS": [line for option in (*common(), *more) for line in item(*option)],
        "FILES": item(*FILES),
    })


def commands(option: cfg.SubCommandOpt) -> list[str]:
    """The sub-commands that some want, as argparse is taught them."""
    parsers = ArgumentParser().add_subparsers()
    option.handler(parsers)
    return [line for each in parsers._choices_actions for line in item(each.dest, (each.help or "").split("\n")[0])]


def common() -> Iterator[tuple[str, str]]:
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    yield "--config-file FILE", "Read this file instead; may be repeated, and the last one counts."
    yield "--config-dir FOLDER", "Read every *.conf in the folder after that."
    for name in ("debug", "log-file", "log-dir", "use-json"):
        option = conf._opts[name.replace("-", "_")]["opt"]
        yield f"--{name}", re.sub(r"\s+", " ", option.help or "").partition(". ")[0].rstrip(".") + "."


# Roff.


def page(name: str, section: int, about: str, parts: dict[str, list[str]]) -> str:
    title = f'.TH "{name.upper()}" {section} "" "Statera {__version__}" "Statera"'
    lines = ['.\\" Written by script/man.py from the command itself.', title,
             ".SH NAME", f"{plain(name)} \\- {plain(about)}"]
    for heading, body in {**parts, "SEE ALSO": [SEE]}.items():
        if body:
            lines += [f".SH {heading}", *body]
    return "\n".join(lines) + "\n"


def item(term: str, text: str) -> list[str]:
    return [".TP", bold(term), plain(text)]


def paragraphs(text: str) -> list[str]:
    found = [plain(re.sub(r"\s+", " ", part).strip()) for part in text.strip().split("\n\n")]
    return [line for part in found for line in (".PP", part)][1:]


def bold(text: str) -> str:
    return f"\\fB{plain(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{plain(text)}\\fR"


def plain(text: str) -> str:
    """Text that roff takes as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.exit(main())
