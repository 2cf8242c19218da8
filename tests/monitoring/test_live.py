"""Every query of rules and dashboards, sent to a real Prometheus that scrapes service and watch under traffic."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.queries import Query, queries
from tests.monitoring.stage import RunningPrometheus, platform

pytestmark = pytest.mark.slow

PATIENCE = 45.0  # seconds for the first samples after the last traffic, for all queries together


@pytest.fixture(scope="module")
def prometheus(module_tmp_path: Path) -> Iterator[RunningPrometheus]:
    root = module_tmp_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        with platform(root) as running:
            yield running


@pytest.fixture(scope="module")
def deadline(prometheus: RunningPrometheus) -> float:
    return time.monotonic() + PATIENCE


@pytest.fixture(scope="module")
def exported(prometheus: RunningPrometheus) -> set[str]:
    """Names of the series that service and watch export, including the parts of histograms."""
    return {name for name in prometheus.get("label/__name__/values") if name.startswith("buckler_")}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_every_query_returns_data(prometheus: RunningPrometheus, deadline: float, query: Query):
    while not (found := prometheus.values(query.shown)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found, query.shown


def test_every_exported_metric_is_in_a_dashboard_or_an_alert(exported: set[str]):
    used = set().union(*(query.names for query in queries()))
    families = {name for name in exported if not name.endswith(("_bucket", "_sum", "_count", "_created"))}
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    assert families - used == set()
    assert {family for family in histograms if not any(name.startswith(family) for name in used)} == set()


def test_prometheus_evaluates_every_rule_without_an_error(prometheus: RunningPrometheus, deadline: float):
    def failing() -> list[str]:
        groups = prometheus.get("rules")["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    while failing() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert failing() == []
    loaded = sum(len(group["rules"]) for group in prometheus.get("rules")["groups"])
    assert loaded == sum(query.place.startswith("rule: ") for query in queries())


def test_scrapes_send_the_key_and_every_target_is_up(prometheus: RunningPrometheus):
    targets = prometheus.get("targets")["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == {
        "buckler-service": "up",
        "buckler-watch": "up",
    }


def test_a_search_by_queries_raises_an_alert(prometheus: RunningPrometheus):
    states = {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.get("alerts")["alerts"]}
    assert states.get("BucklerQueryAttack") in ("pending", "firing")
    assert "BucklerServiceDown" not in states
