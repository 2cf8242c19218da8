"""Every query of rules and dashboards, asked of a real Prometheus that scrapes real service and watch under traffic."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.queries import Query, queries
from tests.monitoring.stage import Asked, platform

pytestmark = pytest.mark.slow

PATIENCE = 45.0  # for the first samples of what the last traffic changed, of all queries together


@pytest.fixture(scope="module")
def prometheus(module_tmp_path: Path) -> Iterator[Asked]:
    root = module_tmp_path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.chdir(root)
        with platform(root) as running:
            yield running


@pytest.fixture(scope="module")
def deadline(prometheus: Asked) -> float:
    return time.monotonic() + PATIENCE


@pytest.fixture(scope="module")
def exported(prometheus: Asked) -> set[str]:
    """What service and watch export, histograms with their parts."""
    return {name for name in prometheus.get("label/__name__/values") if name.startswith("buckler_")}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.place)
def test_every_query_gives_data(prometheus: Asked, deadline: float, query: Query):
    while not (found := prometheus.values(query.shown)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found, query.shown


def test_everything_exported_is_shown_or_alerted_on(exported: set[str]):
    used = set().union(*(query.names for query in queries()))
    families = {name for name in exported if not name.endswith(("_bucket", "_sum", "_count", "_created"))}
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    assert families - used == set()
    assert {family for family in histograms if not any(name.startswith(family) for name in used)} == set()


def test_prometheus_evaluates_every_rule_without_an_error(prometheus: Asked, deadline: float):
    def troubled() -> list[str]:
        groups = prometheus.get("rules")["groups"]
        return [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]

    while troubled() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert troubled() == []
    loaded = sum(len(group["rules"]) for group in prometheus.get("rules")["groups"])
    assert loaded == sum(query.place.startswith("rule: ") for query in queries())


def test_the_scrapes_show_the_key_and_nothing_is_down(prometheus: Asked):
    targets = prometheus.get("targets")["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == {
        "buckler-service": "up",
        "buckler-watch": "up",
    }


def test_a_search_by_queries_is_on_its_way_to_an_alert(prometheus: Asked):
    states = {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.get("alerts")["alerts"]}
    assert states.get("BucklerQueryAttack") in ("pending", "firing")
    assert "BucklerServiceDown" not in states
