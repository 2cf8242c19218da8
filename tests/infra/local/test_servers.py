"""`make up`: the servers, their addresses and connections. `tests/pipelines` runs them all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.local import monitoring, places, ports, processes, servers
from infra.local.places import LocalError
from tests.monitoring.tools import run

# Servers outlive the object that started them, as they outlive the command.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
PORTS = {name: 20000 + number for number, name in enumerate(ports.TITLES)}


def test_every_server_has_its_port_and_every_page_is_listed_once(root: Path):
    found = servers.described(PORTS)
    assert {process.name: process.port for process in found}.items() <= PORTS.items()
    assert {"mlflow", "service", "watch", "console"} <= {process.name for process in found}
    pages = [name for process in found for name in process.pages]
    assert len(pages) == len(set(pages))


def test_prometheus_and_alertmanager_start_if_they_are_installed(root: Path):
    started = {process.name for process in servers.described(PORTS)}
    assert ("prometheus" in started) == bool(shutil.which("prometheus"))
    assert ("alertmanager" in started) == bool(shutil.which("prometheus-alertmanager"))


def test_prometheus_scrapes_the_chosen_ports_and_reads_only_the_rules_of_this_version(root: Path):
    config = root / ".buckler/monitoring/prometheus"
    (config / "rules").mkdir(parents=True)
    (config / "rules/old.yml").write_text("groups: []")
    monitoring.configure(PORTS)
    for name in ("service", "watch", "alertmanager"):
        assert yaml.safe_load((config / f"targets/{name}.yml").read_text()) == [
            {"targets": [f"127.0.0.1:{PORTS[name]}"]}
        ]
    assert {path.name for path in (config / "rules").iterdir()} == {
        path.name for path in (root / "monitoring/prometheus/rules").iterdir()
    }
    run("promtool", "check", "config", config / "prometheus.yml")


def test_console_and_watch_have_the_addresses_of_the_other_servers(root: Path):
    by_name = {process.name: process for process in servers.described(PORTS)}
    urls = {name: url for name, url in by_name["console"].env.items() if name.endswith("_URL")}
    assert urls == {
        f"BUCKLER_{name.upper()}_URL": f"http://127.0.0.1:{PORTS[name]}"
        for name in ("service", "prometheus", "alertmanager", "watch")
    }
    assert by_name["console"].env["BUCKLER_CONSOLE_PORT"] == str(PORTS["console"])
    assert by_name["watch"].env["BUCKLER_WATCH_SERVICE_URL"] == f"http://127.0.0.1:{PORTS['service']}"
    assert by_name["watch"].command[-2:] == ["--port", str(PORTS["watch"])]


def test_the_scrape_key_is_copied_and_a_missing_one_is_an_error_with_the_command(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BUCKLER_SCRAPE_KEY_FILE", str(tmp_path / "absent.key"))
    with pytest.raises(LocalError, match="keys create --role operate"):
        monitoring.configure(PORTS)
    (tmp_path / "absent.key").write_text("bk_test")
    monitoring.configure(PORTS)
    assert (root / ".buckler/monitoring/prometheus/keys/service.key").read_text() == "bk_test"


def test_a_taken_port_moves_one_server_and_all_commands_agree_on_it_until_down(root: Path, pages, taken, capsys):
    service = ports.current()["service"]
    with taken(service):
        assert servers.up() == ["service", "console"]
        said = capsys.readouterr().out
        moved = ports.current()["service"]
        assert f"port {service} is taken by another program: the service uses {moved}\n" in said
        assert f"http://127.0.0.1:{moved}/" in said
        assert processes.answers(f"http://127.0.0.1:{moved}/params.yaml")
        targets = root / ".buckler/monitoring/prometheus/targets/service.yml"
        assert f"127.0.0.1:{moved}" in targets.read_text()
    assert servers.up() == []  # the port is free again, and the server stays where it is
    assert ports.current()["service"] == moved
    servers.stop()
    assert not processes.answers(f"http://127.0.0.1:{moved}/params.yaml")
    assert ports.current()["service"] == service
    assert not list((root / ".buckler/run").glob("*.pid"))


def test_a_server_that_does_not_start_stops_only_those_that_were_started(root: Path, pages, monkeypatch):
    assert servers.up() == ["service", "console"]
    servers.stop(["console"])

    def broken(at: ports.Ports) -> list[processes.Process]:
        service, console = pages(at)
        return [service, processes.Process("console", [sys.executable, "-c", "print(1/0)"], console.port, "/", {})]

    monkeypatch.setattr(servers, "described", broken)
    with pytest.raises(LocalError, match=r"(?s)console did not start.*ZeroDivisionError"):
        servers.up()
    assert processes.running("service")
    assert set(ports.current()) == set(PORTS)


def test_the_address_of_a_page_is_the_first_path_that_answers(root: Path, pages):
    servers.up()
    process = next(each for each in pages(ports.current()) if each.name == "service")
    assert processes.first_page(process, ["/absent", "/dvc.yaml"]) == f"{process.address}/dvc.yaml"
    assert processes.first_page(process, ["/dvc.yaml", "/absent"]) == f"{process.address}/dvc.yaml"


def test_an_unknown_action_is_an_error():
    done = subprocess.run(
        [sys.executable, "-m", "infra.local", "restart"], cwd=places.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
