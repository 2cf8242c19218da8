"""Rules, alerts and dashboards are valid, tested both ways, documented, and read metrics that exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from services.classifier import metrics
from services.classifier.endpoints import ENDPOINTS
from tests.monitoring.queries import MONITORING, PROMETHEUS, ROOT, RULE_TESTS, RULES, Query, queries, rules
from tests.monitoring.tools import run

# Burn rates of the 30-day error budget, each with its long and short window: Site Reliability Workbook, "Alerting on
# SLOs", table of the recommended parameters.
BURN_RATES = {"Fast": ((14.4, "1h", "5m"), (6, "6h", "30m")), "Slowly": ((3, "1d", "2h"), (1, "3d", "6h"))}
OBJECTIVES = {"Availability": ("errors", "0.005"), "Latency": ("slow", "0.01")}


ALERTS = rules("alert")


def service_metrics() -> set[str]:
    families = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    names = set()
    for family in (family for collector in families for family in collector.describe()):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def watch_metrics() -> set[str]:
    """Return the metric names in the code of the watch and its jobs; counters get their suffix when scraped."""
    names = set()
    for path in [*(ROOT / "src/buckler").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"buckler_[a-z0-9_]+", str(node.value)):
                names |= {node.value, f"{node.value}_total"}
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


def test_prometheus_sends_the_service_a_key_from_a_file_that_is_empty_here():
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    shown = {job["job_name"]: job.get("authorization") for job in jobs}
    assert shown == {"buckler-service": {"credentials_file": "keys/service.key"}, "buckler-watch": None}
    assert (PROMETHEUS / "keys/service.key").read_bytes() == b""


def test_prometheus_accepts_the_rules():
    run("promtool", "check", "rules", "--lint-fatal", *RULES)


@pytest.mark.slow
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_fire_and_stay_quiet_as_their_tests_state(path: Path):
    run("promtool", "test", "rules", path)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rule_groups_are_evaluated_in_the_order_of_their_files(path: Path):
    # promtool would choose an order at random; an alert then sometimes meets a recording of the step before.
    cases = yaml.safe_load(path.read_text())
    files = [yaml.safe_load((path.parent / name).read_text()) for name in cases["rule_files"]]
    assert cases["group_eval_order"] == [group["name"] for file in files for group in file["groups"]]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_a_duration_texts_and_a_runbook(alert: dict[str, Any]):
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    page = (ROOT / alert["annotations"]["runbook_url"]).read_text()
    assert page.startswith(f"# {alert['alert']}\n\n**What it means.** ")
    assert "\n**Do.** " in page or "| do |" in page
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (ROOT / "docs/runbooks" / link).is_file()


def test_every_runbook_belongs_to_an_alert():
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("Buckler*.md")}
    assert pages == {alert["alert"] for alert in ALERTS}


def test_runbooks_name_dashboards_and_panels_that_exist(panel_titles: dict[str, set[str]]):
    for path in (ROOT / "docs/runbooks").glob("*.md"):
        page = " ".join(path.read_text().split())
        for sentence in re.findall(r"[Dd]ashboard ((?:\*[^*]+\*(?:,? and |, )?)+)", page):
            board, *panels = re.findall(r"\*([^*]+)\*", sentence)
            assert set(panels) <= panel_titles[f"buckler-{board.lower()}"], path.name


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


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("pace", BURN_RATES)
def test_budget_alerts_use_the_rates_and_windows_of_the_workbook(objective: str, pace: str):
    (alert,) = (each for each in ALERTS if each["alert"] == f"Buckler{objective}Burning{pace}")
    metric, budget = OBJECTIVES[objective]
    series = f"job:buckler_predict_{metric}:ratio_rate"
    conditions = [
        " and ".join(f"{series}{window} > {factor} * {budget}" for window in windows)
        for factor, *windows in BURN_RATES[pace]
    ]
    assert alert["expr"] == " or ".join(conditions)


def test_the_objectives_in_the_page_are_those_of_rules_and_dashboards():
    text = (ROOT / "docs/slo.md").read_text()
    for _, budget in OBJECTIVES.values():
        assert f"{100 * (1 - float(budget)):g} %" in text
        assert any(f"/ {budget}" in query.expr for query in queries())


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_every_query_reads_only_exported_metrics(query: Query):
    assert query.names <= KNOWN
    assert query.names or re.search(r"\b(up|ALERTS)\{", query.expr)


def test_rules_and_dashboards_select_endpoints_of_the_services_table():
    with_pictures = f'endpoint=~"{"|".join(ENDPOINTS.picture_labels)}"'
    known = {with_pictures, *(f'endpoint="{label}"' for label in ENDPOINTS.labels)}
    selectors = [(query.place, each) for query in queries() for each in re.findall(r'endpoint=~?"[^"]*"', query.expr)]
    assert with_pictures in {each for _, each in selectors}
    wrong = [f"{place}: {each}" for place, each in selectors if each not in known]
    assert wrong == [], f"write {with_pictures} or one label of services.classifier.endpoints; rules: prometheus/rules/"


def test_grafana_is_provisioned_with_prometheus_and_the_dashboards():
    folder = MONITORING / "grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert [(source["uid"], source["type"], source["isDefault"]) for source in sources] == [
        ("prometheus", "prometheus", True)
    ]
    providers = yaml.safe_load((folder / "dashboards/buckler.yml").read_text())["providers"]
    assert [provider["type"] for provider in providers] == ["file"]
