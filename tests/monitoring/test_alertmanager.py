"""Routes and inhibitions of alerts, checked with a real Alertmanager."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.servers import end, free_port
from tests.monitoring.queries import MONITORING, rules
from tests.monitoring.tools import needs, run
from tests.waiting import wait_for

CONFIGURATION = MONITORING / "alertmanager/alertmanager.yml"
CONTENT: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
ALERTS = {alert["alert"] for alert in rules("alert")}


def values(matchers: list[str]) -> dict[str, str]:
    """Return the pattern of each label in a list of matchers; one is on the name."""
    found = [re.fullmatch(r'(\w+)=~?"(.+)"', matcher) for matcher in matchers]
    assert all(found), matchers
    return {match[1]: match[2] for match in found if match}


def matched(matchers: list[str]) -> set[str]:
    """Return the alerts whose name matches."""
    name = values(matchers)["alertname"]
    return {alert for alert in ALERTS if re.fullmatch(name, alert)}


def pairs() -> list[tuple[str, str, tuple[str, ...], dict[str, str]]]:
    """Return source, target, the labels that must be equal, and the target's other labels, for every inhibition."""
    return [
        (source, target, tuple(rule.get("equal", ())), others)
        for rule in CONTENT["inhibit_rules"]
        for source in sorted(matched(rule["source_matchers"]))
        for target in sorted(matched(rule["target_matchers"]))
        for others in _labels(values(rule["target_matchers"]))
    ]


def _labels(patterns: dict[str, str]) -> list[dict[str, str]]:
    """Return labels that match, besides the name: one set for each alternative."""
    others = [(label, pattern.split("|")) for label, pattern in patterns.items() if label != "alertname"]
    return [dict(zip(dict(others), each, strict=True)) for each in product(*(names for _, names in others))]


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def send(self, *alerts: dict[str, str]) -> None:
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(
            f"{self._url}/api/v2/alerts", body, {"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def suppressed(self, **labels: str) -> bool:
        with urllib.request.urlopen(f"{self._url}/api/v2/alerts", timeout=10) as response:
            found = [each for each in json.load(response) if labels.items() <= each["labels"].items()]
        (alert,) = found
        return alert["status"]["state"] == "suppressed"


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    program, port, directory = needs("prometheus-alertmanager"), free_port(), tmp_path_factory.mktemp("alertmanager")
    command = [program, f"--config.file={CONFIGURATION}", f"--storage.path={directory}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with Path(directory, "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    running = Alertmanager(port)
    try:
        wait_for(running.ready, 30)
        yield running
    finally:
        end(process)


def test_alertmanager_accepts_its_configuration():
    run("amtool", "check-config", CONFIGURATION)


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "on-call"), ("warning", "working-hours")])
def test_critical_alerts_go_to_the_on_call_engineer_and_warnings_to_working_hours(severity: str, receiver: str):
    labels = ["alertname=BucklerServiceDown", "job=buckler-service", f"severity={severity}"]
    assert run("amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}", *labels).strip() == receiver


def test_every_matcher_matches_an_alert_that_exists():
    for rule in CONTENT["inhibit_rules"]:
        assert matched(rule["source_matchers"])
        assert matched(rule["target_matchers"])


@pytest.mark.parametrize(("source", "target", "equal", "others"), pairs())
def test_an_alert_that_follows_from_another_is_suppressed_only_for_the_same_job_instance_or_service(
    alertmanager: Alertmanager,
    source: str,
    target: str,
    equal: tuple[str, ...],
    others: dict[str, str],
    request: pytest.FixtureRequest,
):
    here = {**dict.fromkeys(("job", "instance", "service"), request.node.name), **others}
    elsewhere = {label: f"not {text}" for label, text in here.items()} | others
    alertmanager.send({"alertname": target, **here}, {"alertname": target, **elsewhere})
    before = alertmanager.suppressed(alertname=target, **here)
    alertmanager.send({"alertname": source, **here})
    # The inhibitor processes an alert shortly after the response.
    wait_for(lambda: alertmanager.suppressed(alertname=target, **here), 10)
    if equal:
        assert not before
        assert alertmanager.suppressed(alertname=target, **elsewhere) is before


def test_a_job_that_does_not_ask_the_service_is_reported_while_it_is_down(alertmanager: Alertmanager):
    failing = {"alertname": "BucklerWatchError", "job": "buckler-watch", "instance": "offline"}
    alertmanager.send({"alertname": "BucklerServiceDown", "job": "buckler-service", "instance": "offline"})
    alertmanager.send({**failing, "exported_job": "canary"}, {**failing, "exported_job": "reevaluate"})
    wait_for(lambda: alertmanager.suppressed(**failing, exported_job="canary"), 10)
    assert not alertmanager.suppressed(**failing, exported_job="reevaluate")
