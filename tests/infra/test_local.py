"""`make up`: its processes, their addresses and connections. `tests/pipelines` runs the processes."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from benchmarks.servers import free_port
from infra import local
from tests.monitoring.tools import run

CHOSEN = ("mlflow", "service", "console", "prometheus", "alertmanager")


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free ports, and a copy of the files that `make up` reads, so that the developer's processes are not affected."""
    for part in ("monitoring", "params.yaml"):
        copy = shutil.copytree if (local.ROOT / part).is_dir() else shutil.copy
        copy(local.ROOT / part, tmp_path / part)
    monkeypatch.setattr(local, "ROOT", tmp_path)
    chosen = {name: free_port() for name in CHOSEN}
    for name, port in chosen.items():
        monkeypatch.setenv(f"BUCKLER_{name.upper()}_PORT", str(port))
    watch = yaml.safe_load((tmp_path / "params.yaml").read_text())["watch"]["port"]
    return {**chosen, "watch": watch}


def test_every_process_has_its_port_and_every_page_is_listed_once(ports: dict[str, int]):
    found = local.processes()
    assert {process.name: process.port for process in found}.items() <= ports.items()
    assert {"mlflow", "service", "watch", "console"} <= {process.name for process in found}
    pages = [name for process in found for name in process.pages]
    assert len(pages) == len(set(pages))


def test_prometheus_and_alertmanager_start_if_they_are_installed(ports: dict[str, int]):
    started = {process.name for process in local.processes()}
    assert ("prometheus" in started) == bool(shutil.which("prometheus"))
    assert ("alertmanager" in started) == bool(shutil.which("prometheus-alertmanager"))


def test_prometheus_scrapes_the_chosen_ports_and_reads_only_the_rules_of_this_version(ports: dict[str, int]):
    config = local.ROOT / ".buckler/monitoring/prometheus"
    (config / "rules").mkdir(parents=True)
    (config / "rules/old.yml").write_text("groups: []")
    local.processes()
    for name in ("service", "watch", "alertmanager"):
        assert yaml.safe_load((config / f"targets/{name}.yml").read_text()) == [
            {"targets": [f"127.0.0.1:{ports[name]}"]}
        ]
    assert {path.name for path in (config / "rules").iterdir()} == {
        path.name for path in (local.ROOT / "monitoring/prometheus/rules").iterdir()
    }
    run("promtool", "check", "config", config / "prometheus.yml")


def test_the_console_has_the_addresses_of_the_other_processes(ports: dict[str, int]):
    (process,) = (each for each in local.processes() if each.name == "console")
    urls = {name: url for name, url in process.env.items() if name.endswith("_URL")}
    assert urls == {
        f"BUCKLER_{name.upper()}_URL": f"http://127.0.0.1:{ports[name]}"
        for name in ("service", "prometheus", "alertmanager", "watch")
    }
    assert process.env["BUCKLER_CONSOLE_PORT"] == str(ports["console"])


def test_the_scrape_key_is_copied_and_a_missing_one_is_an_error_with_the_command(
    ports: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BUCKLER_SCRAPE_KEY_FILE", str(tmp_path / "absent.key"))
    with pytest.raises(local.LocalError, match="keys create --role operate"):
        local.processes()
    (tmp_path / "absent.key").write_text("bk_test")
    local.processes()
    assert (local.ROOT / ".buckler/monitoring/prometheus/keys/service.key").read_text() == "bk_test"


def test_the_address_of_a_page_is_the_first_path_that_answers(tmp_path: Path):
    (tmp_path / "alerts").write_text("here")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = local.Process("prometheus", [], server.server_port, "/", {})
        assert local._first_page(process, ["/classic/alerts", "/alerts"]) == f"{process.address}/alerts"
        assert local._first_page(process, ["/alerts", "/classic/alerts"]) == f"{process.address}/alerts"
        server.shutdown()


def test_an_unknown_action_is_an_error():
    done = subprocess.run([sys.executable, local.__file__, "restart"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
