"""Rules, alerts and dashboards: valid, tested both ways, documented, and about metrics that exist."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import buckler.watch
from services.classifier import metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))


def run(program: str, *arguments: str | Path) -> str:
    """Run one of Prometheus' tools; where it is not installed, fail in CI and skip elsewhere."""
    if shutil.which(program) is None:
        message = f"{program} is not installed (Debian: prometheus, prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def rules(kind: str) -> list[dict[str, Any]]:
    """Return all rules of ``kind``: ``alert`` or ``record``."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = rules("alert")


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield f"{path.stem}: {panel['title']}", panel


def names_in(expression: str) -> set[str]:
    """Return the metrics and recorded series that an expression reads."""
    without_labels = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:[a-z]+:)?buckler_[a-z0-9_:]+", without_labels))


def service_metrics() -> set[str]:
    families = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    names = set()
    for family in (family for collector in families for family in collector.describe()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def watch_metrics() -> set[str]:
    """Return the names that the watch gives to its families when it is scraped."""
    names = set()
    modules = sorted(Path(buckler.watch.__file__).parent.glob("*.py"))
    for call in (node for module in modules for node in ast.walk(ast.parse(module.read_text()))):
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
            name, kind = call.args[0].value, ast.unparse(call.func)
            if isinstance(name, str) and re.fullmatch(r"buckler_[a-z0-9_]+", name):
                names.add(name + "_total" * (kind == "CounterMetricFamily"))
    return names


KNOWN = service_metrics() | watch_metrics() | {rule["record"] for rule in rules("record")}


def test_the_metrics_of_service_and_watch_are_found():
    assert {
        "buckler_requests_total",
        "buckler_detector_score_bucket",
        "buckler_model_info",
    } <= service_metrics()
    assert {"buckler_watch_runs_total", "buckler_gate_passed"} <= watch_metrics()


def test_prometheus_accepts_its_configuration():
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_prometheus_shows_the_service_a_key_from_a_file_that_is_empty_here():
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    shown = {job["job_name"]: job.get("authorization") for job in jobs}
    assert shown == {"buckler-service": {"credentials_file": "keys/service.key"}, "buckler-watch": None}
    assert (PROMETHEUS / "keys/service.key").read_bytes() == b""


def test_prometheus_accepts_the_rules():
    run("promtool", "check", "rules", "--lint-fatal", *RULES)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_fire_and_stay_quiet_as_written_down(path: Path):
    run("promtool", "test", "rules", path)


def test_alertmanager_accepts_its_configuration():
    run("amtool", "check-config", MONITORING / "alertmanager/alertmanager.yml")


def test_alertmanager_inhibits_only_alerts_that_exist():
    configuration = yaml.safe_load((MONITORING / "alertmanager/alertmanager.yml").read_text())
    matchers = [
        matcher
        for rule in configuration["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
    ]
    named = {name for matcher in matchers for name in re.findall(r"Buckler\w+", matcher)}
    assert named <= {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_waits_says_what_and_leads_to_its_page(alert: dict[str, Any]):
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    page = (ROOT / alert["annotations"]["runbook_url"]).read_text()
    assert page.startswith(f"# {alert['alert']}\n")
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (ROOT / "docs/runbooks" / link).is_file()


def test_every_runbook_page_belongs_to_an_alert():
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("Buckler*.md")}
    assert pages == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_every_alert_is_tested_both_ways(alert: str):
    cases = [
        bool(case.get("exp_alerts"))
        for path in RULE_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("rule", ALERTS + rules("record"), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_in_a_rule_is_exported(rule: dict[str, Any]):
    assert names_in(rule["expr"]) <= KNOWN


@pytest.mark.parametrize(("title", "panel"), list(panels()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_panel_reads_metrics_that_are_exported(title: str, panel: dict[str, Any]):
    if panel["type"] == "row":
        return
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        assert names_in(target["expr"]) <= KNOWN
        assert names_in(target["expr"]) or "up{" in target["expr"]


def test_every_exported_metric_is_used_somewhere():
    expressions = [rule["expr"] for rule in ALERTS + rules("record")]
    expressions += [target["expr"] for _, panel in panels() for target in panel.get("targets", [])]
    used = set().union(*map(names_in, expressions))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in service_metrics() | watch_metrics()}
    unused = {family for family in families if not any(name.startswith(family) for name in used)}
    assert unused <= {"buckler_watch_last_run_timestamp_seconds", "buckler_watch_duration_seconds"}


def test_dashboards_have_a_fixed_uid_and_panels_that_do_not_overlap():
    assert [json.loads(path.read_text())["uid"] for path in DASHBOARDS] == ["buckler"]
    taken: dict[tuple[int, int], str] = {}
    ids = []
    for title, panel in panels():
        ids.append(panel["id"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), title) == title
    assert len(ids) == len(set(ids))


def test_grafana_is_provisioned_with_the_datasource_that_the_dashboards_name():
    folder = MONITORING / "grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert [(source["uid"], source["type"]) for source in sources] == [("prometheus", "prometheus")]
    providers = yaml.safe_load((folder / "dashboards/buckler.yml").read_text())["providers"]
    assert [provider["type"] for provider in providers] == ["file"]
