"""monitoring/: the alerts do what their tests say, each has its runbook, and Grafana can import the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_docs import anchors

REPOSITORY = Path(__file__).parents[2]
MONITORING = REPOSITORY / "monitoring"
RULES = MONITORING / "ipvsca.rules.yml"
TESTS = MONITORING / "ipvsca.test.yml"
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool: apt install prometheus")


@needs_promtool
@pytest.mark.parametrize("arguments", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=lambda words: words[0])
def test_the_alerts(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=MONITORING)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_test(alert: str) -> None:
    """In which it fires."""
    assert re.search(rf'alertname="{alert}"|alertname: {alert}\n', TESTS.read_text())


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_runbook(alert: str) -> None:
    rule = re.search(rf"- alert: {alert}\n(.*?)(?:\n\n|\Z)", RULES.read_text(), re.DOTALL)
    assert rule
    runbook = re.search(r"runbook_url: (\S+)#(\S+)", rule[1])
    assert runbook
    assert runbook.groups() == ("docs/alerts.md", alert.lower())
    assert runbook[2] in anchors(REPOSITORY / runbook[1])


def test_there_is_no_runbook_for_an_alert_that_does_not_exist() -> None:
    assert re.findall(r"^## (Ipvsca\w+)", (REPOSITORY / "docs/alerts.md").read_text(), re.MULTILINE) == ALERTS


def test_the_dashboard_asks_for_its_data_source() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert [source["uid"] for source in everything_called("datasource", DASHBOARD)] != []
    assert {source["uid"] for source in everything_called("datasource", DASHBOARD)} == {"${datasource}"}


def everything_called(name: str, value: Any) -> list[Any]:
    if isinstance(value, list):
        return [found for item in value for found in everything_called(name, item)]
    if isinstance(value, dict):
        here = [value[name]] if name in value else []
        return here + [found for item in value.values() for found in everything_called(name, item)]
    return []


def test_no_two_panels_are_in_one_place() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@needs_promtool
@pytest.mark.parametrize("expression", everything_called("expr", DASHBOARD))
def test_each_query_of_the_dashboard_is_one(expression: str, tmp_path: Path) -> None:
    """Grafana fills in its variables; promtool reads expressions in rules alone."""
    filled_in = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": "r", "expr": filled_in}]}]}))
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
