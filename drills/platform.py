"""Watch, Prometheus and service as `make up` starts them, observed from outside."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import servers
from drills.registry import DrillError
from drills.scene import DrillScene
from drills.service import RunningService, metric_sum, wait_until

START_SECONDS = 120
NEVER = "0 0 29 2 *"  # due on leap days only
SOON = "soon"  # replaced by a time between 30 and 90 seconds after the start of the watch


@dataclass
class Platform:
    """A service, a watch and a Prometheus, connected to each other.

    Attributes:
        service: The running service.
        directory: Working directory of the watch, with params.yaml, data and its state.
        prometheus: Address of Prometheus, which scrapes every 15 seconds as in production.
        metrics: Address of the watch.
        env: Environment of the watch.
    """

    service: RunningService
    directory: Path
    prometheus: str
    metrics: str
    env: Mapping[str, str]
    watch: "subprocess.Popen[bytes] | None" = None

    def start_watch(self) -> None:
        """Start the watch in its directory and wait until it answers."""
        log = self.directory / "watch.log"
        command = [sys.executable, "-m", "buckler.cli", "watch"]
        process = self.watch = servers.start(command, env=self.env, log=log, directory=self.directory)
        wait_until(
            lambda: _read(f"{self.metrics}/metrics") is not None or process.poll() is not None,
            START_SECONDS,
            "the watch to start",
        )
        if process.poll() is not None:
            raise DrillError(f"the watch does not start:\n{log.read_text(encoding='utf-8')}")

    def kill_watch(self) -> None:
        """Kill the watch and its running job with SIGKILL."""
        if self.watch:
            os.killpg(self.watch.pid, signal.SIGKILL)
            self.watch.wait()
            self.watch = None

    def watched(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples in the watch; 0 if the watch does not answer."""
        return metric_sum(_read(f"{self.metrics}/metrics") or "", name, labels)

    def states(self, alert: str) -> set[str]:
        """Return the states of an alert in Prometheus: pending, firing, or neither."""
        text = _read(f"{self.prometheus}/api/v1/alerts")
        alerts = json.loads(text)["data"]["alerts"] if text else []
        return {each["state"] for each in alerts if each["labels"]["alertname"] == alert}

    def wait_for_alert(self, alert: str, seconds: float = 240) -> float:
        """Wait until an alert fires and return the seconds that it took."""
        return round(wait_until(lambda: "firing" in self.states(alert), seconds, f"the alert {alert}"), 1)

    def wait_until_scraped(self) -> None:
        """Wait until Prometheus has scraped the service, and the watch if it runs: later increases count."""
        for job in ("buckler-service", *(["buckler-watch"] if self.watch else [])):
            wait_until(partial(self._scraped, job), 60, f"a scrape of {job}")

    def _scraped(self, job: str) -> bool:
        return self.value(f'up{{job="{job}"}}') == 1

    def value(self, query: str) -> float | None:
        """Return the value of a query's first series; None without a series."""
        text = _read(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        found = json.loads(text)["data"]["result"] if text else []
        return float(found[0]["value"][1]) if found else None


@contextmanager
def platform(scene: DrillScene, watching: Mapping[str, Any] | None = None, **sections: Any) -> Iterator[Platform]:
    """Run service, watch and Prometheus on the drill's registry until the context ends.

    Args:
        scene: Its registry has a champion.
        watching: Changes to the section ``watch``; jobs that it does not name never run. None starts no watch.
        sections: Changes to other sections of params.yaml.

    Raises:
        DrillError: Prometheus is not installed.
    """
    server = shutil.which("prometheus")
    if server is None:
        raise DrillError("expected Prometheus to be installed, as on Debian by `apt install prometheus`")
    directory = scene.registry.root
    if not (directory / "data").exists():
        (directory / "data").symlink_to(scene.builder.project / "data")
    traffic = f"sqlite:///{scene.directory / 'traffic.db'}"
    with scene.service({"BUCKLER_TRAFFIC_URL": traffic}) as service:
        env = servers.environment(
            {**scene.registry.env, "BUCKLER_WATCH_SERVICE_URL": service.url, "BUCKLER_TRAFFIC_URL": traffic}
        )
        watch_port, port = servers.free_port(), servers.free_port()  # late: another program may take a free port
        write_params(scene, directory, {"port": watch_port, **(watching or {})}, sections)
        targets = {"service": service.port, "watch": watch_port}
        with _prometheus(server, scene.directory / "prometheus", port, targets) as address:
            started = Platform(service, directory, address, f"http://127.0.0.1:{watch_port}", env)
            try:
                if watching is not None:
                    started.start_watch()
                started.wait_until_scraped()
                yield started
            finally:
                started.kill_watch()


def write_params(scene: DrillScene, directory: Path, watching: Mapping[str, Any], sections: Mapping[str, Any]) -> None:
    """Write the project's params.yaml with the drill's model and changes; jobs without a change never run."""
    values = yaml.safe_load((scene.builder.project / "params.yaml").read_text(encoding="utf-8"))
    values["publish"] |= {"experiment": "drill", "model_name": scene.registry.env["BUCKLER_MODEL_NAME"]}
    jobs = {name: {**job, "cron": NEVER, "jitter_seconds": 0} for name, job in values["watch"]["jobs"].items()}
    for name, changes in watching.get("jobs", {}).items():
        jobs[name] |= {**changes, "cron": _in_a_minute() if changes["cron"] == SOON else changes["cron"]}
    policy = {**values["watch"]["policy"], **watching.get("policy", {})}
    values["watch"] |= {**watching, "jobs": jobs, "policy": policy}
    for name, changes in sections.items():
        values[name] |= changes
    (directory / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _in_a_minute() -> str:
    due = datetime.now() + timedelta(seconds=90)
    return f"{due.minute} {due.hour} {due.day} {due.month} *"


@contextmanager
def _prometheus(server: str, directory: Path, port: int, targets: Mapping[str, int]) -> Iterator[str]:
    """Run Prometheus on the ports in ``targets`` until the context ends; give its address."""
    shutil.copytree(servers.ROOT / "monitoring/prometheus", directory)
    for name, target in targets.items():
        (directory / f"targets/{name}.yml").write_text(f"- targets: ['127.0.0.1:{target}']\n", encoding="utf-8")
    (directory / "targets/alertmanager.yml").write_text("[]\n", encoding="utf-8")
    command = [server, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/store"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    address = f"http://127.0.0.1:{port}"
    with servers.started(command, env=os.environ, log=directory / "prometheus.log"):
        wait_until(lambda: _read(f"{address}/-/ready") is not None, START_SECONDS, "Prometheus to start")
        yield address


def _read(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            text: str = response.read().decode()
            return text
    except OSError:
        return None
