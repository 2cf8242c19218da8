"""`make up` with a real Prometheus and Alertmanager: changed files are read or refused, and links in messages open."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from infra.local import ports, processes, servers
from infra.local.places import LocalError
from tests.monitoring.tools import needs
from tests.waiting import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
RECEIVER = "  - name: on-call\n"
WEBHOOK = RECEIVER + "    webhook_configs: [{url: http://127.0.0.1:9/}]\n"


@pytest.fixture
def monitoring(root: Path, monkeypatch: pytest.MonkeyPatch):
    """The two real servers, with the files of the root."""
    needs("prometheus"), needs("prometheus-alertmanager")
    monkeypatch.setattr(servers, "described", servers._monitoring)
    yield root / "monitoring"
    servers.stop()


def edit(file: Path, before: str, after: str) -> None:
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))


def content(name: str, path: str) -> str:
    return processes.content(f"http://127.0.0.1:{ports.current()[name]}{path}")


def test_a_changed_file_is_read_and_a_wrong_one_refused_until_it_is_corrected(monitoring: Path, capsys):
    assert servers.up() == ["prometheus", "alertmanager"]
    assert servers.up() == []
    assert "changed configuration" not in capsys.readouterr().out

    edit(monitoring / "alertmanager/alertmanager.yml", RECEIVER, WEBHOOK)
    assert servers.up() == []
    assert "alertmanager has read its changed configuration\n" in capsys.readouterr().out
    assert "webhook_configs" in content("alertmanager", "/api/v2/status")

    edit(monitoring / "alertmanager/alertmanager.yml", "receivers:", "recievers:")
    for _ in range(2):
        with pytest.raises(LocalError, match=r"alertmanager refuses the changed files .*: .*recievers not found"):
            servers.up()
        assert "webhook_configs" in content("alertmanager", "/api/v2/status")
    edit(monitoring / "alertmanager/alertmanager.yml", "recievers:", "receivers:")
    assert servers.up() == []


def test_a_changed_rule_is_read_and_a_wrong_one_refused(monitoring: Path, capsys):
    servers.up()
    rules = monitoring / "prometheus/rules/alerts.yml"
    edit(rules, "for: 1m", "for: 2m")
    servers.up()
    assert "prometheus has read its changed configuration\n" in capsys.readouterr().out
    assert '"duration":120' in content("prometheus", "/api/v1/rules")

    edit(rules, 'up{job="buckler-service"} == 0', 'up{job="buckler-service" == 0')
    with pytest.raises(LocalError, match=r"prometheus refuses the changed files of .*: .*alerts\.yml.*could not parse"):
        servers.up()
    assert '"duration":120' in content("prometheus", "/api/v1/rules")
    assert processes.running("prometheus")


@pytest.mark.slow  # Prometheus repeats an alert that found no Alertmanager after a minute
def test_the_links_of_an_alert_open(monitoring: Path):
    """Without `--web.external-url` they would name the host, at whose address nothing answers."""
    servers.up()
    # A rule that fires at once; its own files wait for a minute.
    rule = "groups: [{name: now, interval: 1s, rules: [{alert: Now, expr: vector(1), annotations: {"
    (monitoring / "prometheus/rules/now.yml").write_text(f"{rule}runbook_url: docs/runbooks/BucklerDrift.md}}}}]}}]\n")
    servers.up()
    wait_for(lambda: json.loads(content("alertmanager", "/api/v2/alerts") or "[]") != [], 240)
    (alert,) = [
        each for each in json.loads(content("alertmanager", "/api/v2/alerts")) if each["labels"]["alertname"] == "Now"
    ]
    assert alert["generatorURL"].startswith(f"http://127.0.0.1:{ports.current()['prometheus']}/graph?")
    assert alert["annotations"]["runbook_url"] == f"http://127.0.0.1:{ports.current()['console']}/runbooks/BucklerDrift"
    with urllib.request.urlopen(alert["generatorURL"], timeout=10) as page:
        assert page.status == 200
    # The address of Alertmanager in its messages.
    assert f"http://127.0.0.1:{ports.current()['alertmanager']}/" in " ".join(
        next(each for each in servers._monitoring(ports.current()) if each.name == "alertmanager").command
    )


def test_files_that_were_removed_from_the_project_are_removed_from_the_copy(monitoring: Path):
    servers.up()
    shutil.rmtree(monitoring / "prometheus/tests")
    servers.up()
    assert not (monitoring.parent / ".buckler/monitoring/prometheus/tests").exists()
