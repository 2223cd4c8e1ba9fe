# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboard speak of metrics that exist, and Prometheus' own tool takes the rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from statera import metrics
from statera.api.measurements import Told

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "etc" / "prometheus" / "statera.rules.yml"
TESTS = ROOT / "etc" / "prometheus" / "statera.rules.test.yml"
DASHBOARD = ROOT / "etc" / "grafana" / "statera.json"
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def series():
    """The names of all that any service tells."""
    collectors = [each for service in metrics.SERVICES.values() for each in service]
    families = [*(family for each in collectors for family in each.describe()), *Told([]).collect()]
    return {f"{family.name}{end}" for family in families for end in ENDINGS[family.type]} | set(metrics.FACTS)


def expressions():
    for group in msgspec.yaml.decode(RULES.read_bytes())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_metric_that_is_asked_for_exists(expression):
    named = set(re.findall(r"\bstatera_\w+", expression))
    assert named
    assert named <= series()


def test_every_label_that_is_asked_for_exists():
    labels = {"instance", "le"} | {name for fact in metrics.FACTS.values() for name in fact.labels}
    labels |= {name for service in metrics.SERVICES.values() for each in service for name in each._labelnames}
    for expression in expressions():
        asked = [name for found in re.findall(r"by \(([\w, ]+)\)", expression) for name in found.split(", ")]
        asked += re.findall(r"(\w+)=~?\"", expression)
        assert set(asked) <= labels, expression


def test_every_alert_says_what_to_do():
    for group in msgspec.yaml.decode(RULES.read_bytes())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "what_to_do"}, rule["alert"]


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here: apt-get install prometheus")
@pytest.mark.parametrize(("word", "file"), [("check", RULES), ("test", TESTS)])
def test_prometheus_takes_the_rules(word, file):
    command = ["promtool", word, "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
