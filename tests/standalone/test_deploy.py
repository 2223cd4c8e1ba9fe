# SPDX-License-Identifier: Apache-2.0
"""What `deploy` holds: images start what is installed, the role is sound and writes what we can read."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from oslo_config import cfg

from statera.commands.octavia_options import judged, written
from statera.config import load

ROOT = Path(__file__).parent.parent.parent
ANSIBLE = ROOT / "deploy" / "ansible"
CONTAINERS = ROOT / "deploy" / "containers" / "Containerfile"
INSTRUCTIONS = {"FROM", "RUN", "COPY", "ENV", "USER", "STOPSIGNAL", "VOLUME", "WORKDIR", "EXPOSE", "CMD"}
SECONDS = 120

PROGRAMS = os.pathsep.join([str(ROOT / ".ansible" / "bin"), os.environ["PATH"]])
PLAY, ANSIBLE_LINT = (shutil.which(name, path=PROGRAMS) for name in ("ansible-playbook", "ansible-lint"))
HADOLINT = Path(sys.executable).parent / "hadolint"
RULES = CONTAINERS.with_name("hadolint.yaml")

has_ansible = pytest.mark.skipif(PLAY is None, reason="no ansible-playbook is installed: script/test installs one")
has_lint = pytest.mark.skipif(ANSIBLE_LINT is None, reason="no ansible-lint is installed: script/test installs one")


def scripts() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the container file, by the stage's name."""
    text = re.sub(r"\\\n", "", CONTAINERS.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        found[name].append(line)
    return found


def test_every_service_has_an_image_that_starts_it() -> None:
    services = {unit.stem for unit in (ROOT / "etc" / "systemd").glob("*.service")} - {"statera"}
    images = {name: lines for name, lines in stages().items() if any(line.startswith("CMD") for line in lines)}
    assert set(images) == services
    for name, lines in images.items():
        command = json.loads(next(line for line in lines if line.startswith("CMD")).removeprefix("CMD "))
        assert command[0] == name
        assert name in scripts()


def test_the_container_file_is_well_formed() -> None:
    known: set[str] = set()
    for name, lines in stages().items():
        assert {line.split()[0] for line in lines} <= INSTRUCTIONS
        base = lines[0].split()[1]
        assert base in known or "/" in base
        known.add(name)
        for copied in re.findall(r"--from=(\S+)", "\n".join(lines)):
            assert copied in known
        for source in (word for line in lines if line.startswith("COPY ") and "--from" not in line
                       for word in line.split()[1:-1]):
            assert (ROOT / source).exists()


def linted(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "--config", RULES, "-"], input=text, check=False, capture_output=True, text=True,
                          timeout=SECONDS)


def test_the_container_file_has_none_of_the_known_mistakes() -> None:
    """One that is made on purpose is found, so the program looks."""
    text = CONTAINERS.read_text()
    assert (linted(text).returncode, linted(text).stdout) == (0, "")
    spoilt = linted(text.replace("debian:bookworm-slim", "debian") + "RUN cd /tmp\n")
    assert spoilt.returncode == 1
    assert {"DL3006", "DL3003"} <= set(re.findall(r"DL\d{4}", spoilt.stdout))


def test_the_role_starts_what_is_installed() -> None:
    text = (ANSIBLE / "roles" / "statera" / "defaults" / "main.yml").read_text()
    services = re.findall(r"(?m)^  (\S+): statera_", text)
    assert set(services) == {unit.stem for unit in (ROOT / "etc" / "systemd").glob("*.service")} - {"statera"}


@has_ansible
def test_the_playbook_is_sound() -> None:
    checked = subprocess.run(
        [str(PLAY), "-i", "inventory.example.yml", "site.yml", "--syntax-check"], cwd=ANSIBLE, check=False,
        capture_output=True, text=True, timeout=SECONDS)
    assert checked.returncode == 0, checked.stderr


@has_lint
@pytest.mark.parametrize(("spoilt", "sound"), [
    pytest.param("", True, id="as it is"),
    pytest.param("\n- name: say something\n  shell: echo $HOME\n", False, id="with a mistake made on purpose"),
])
def test_the_role_has_none_of_the_known_mistakes(tmp_path: Path, spoilt: str, sound: bool) -> None:
    role = tmp_path / "ansible"
    shutil.copytree(ANSIBLE, role)
    with (role / "roles" / "statera" / "tasks" / "join.yml").open("a") as file:
        file.write(spoilt)
    checked = subprocess.run(
        [str(ANSIBLE_LINT), "--offline", "--nocolor", "site.yml", "roles/statera"], cwd=role, check=False,
        capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "PATH": PROGRAMS, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"})
    assert (checked.returncode == 0) == sound, checked.stdout + checked.stderr
    assert sound or "fqcn" in checked.stdout


@has_ansible
def test_the_role_writes_a_configuration_that_we_can_read(tmp_path: Path) -> None:
    play = tmp_path / "play.json"
    play.write_text(json.dumps([{
        "hosts": "control1", "connection": "local", "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": "statera", "tasks_from": "configure.yml"}}]}]))
    target = tmp_path / "octavia.conf"
    said = {"statera_configuration_file": str(target), "statera_user": "root", "statera_services": {},
            "vault_database_password": "secret", "ansible_python_interpreter": sys.executable}
    written_down = subprocess.run(
        [str(PLAY), "-i", ANSIBLE / "inventory.example.yml", play, "-e", json.dumps(said)],
        env={**os.environ, "ANSIBLE_ROLES_PATH": str(ANSIBLE / "roles")}, check=False, capture_output=True, text=True,
        timeout=SECONDS)
    assert written_down.returncode == 0, written_down.stdout + written_down.stderr
    settings = load(cfg.ConfigOpts(), [], prog="test", files=[str(target)])
    assert settings.database.connection == "postgresql://octavia:secret@db.example.org/octavia"
    assert settings.agent.endpoints == ["control1.example.org:5555", "control2.example.org:5555"]
    assert settings.health_manager.bind_ip == "0.0.0.0"
    assert judged(written([str(target)])) == ({}, [])


def test_the_manual_pages_are_those_of_the_commands() -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "script" / "man.py", "--check"], check=False, capture_output=True, text=True,
        timeout=SECONDS)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "man").glob("*.[18]")))
def test_a_manual_page_is_well_formed(name: str) -> None:
    """Every request of roff that is used is one of `man`'s, and nobody's text became one."""
    lines = (ROOT / "man" / name).read_text().splitlines()
    requests = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert requests <= {'.\\"', ".TH", ".SH", ".TP", ".PP", ".RS", ".RE"}
    assert lines[1].startswith(f'.TH "{name[:-2].upper()}" {name[-1]} ')
    assert lines.count(".RS") == lines.count(".RE")
