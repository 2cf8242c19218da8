"""The watch and Prometheus beside a service, started as `make up` starts them, and what can be seen of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from drills.registry import DrillError
from drills.scene import Scene
from drills.service import OWN, ROOT, Service, end, free_port, wait_until

START_SECONDS = 120
NEVER = "0 0 29 2 *"  # next due on a leap day
SOON = "soon"  # stands for the next minute but one from when the watch is started


@dataclass
class Platform:
    """A service, a watch and a Prometheus that know each other.

    Attributes:
        service: The running service.
        directory: Of the watch: with params.yaml, data and its state.
        prometheus: Address of the server, which scrapes every 15 seconds as in production.
    """

    service: Service
    directory: Path
    prometheus: str
    env: Mapping[str, str]
    watch: "subprocess.Popen[bytes] | None" = None
    metrics: str = ""
    began: float = field(default_factory=time.monotonic)

    def start_watch(self) -> None:
        """Start the watch on the parameters that lie in its directory, and wait until it answers."""
        log = (self.directory / "watch.log").open("ab")
        self.watch = subprocess.Popen(
            [sys.executable, "-m", "buckler.cli", "watch"],
            cwd=self.directory,
            env=dict(self.env),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        process = self.watch
        wait_until(
            lambda: _read(f"{self.metrics}/metrics") is not None or process.poll() is not None,
            START_SECONDS,
            "the watch to start",
        )
        if process.poll() is not None:
            raise DrillError(f"the watch does not start:\n{(self.directory / 'watch.log').read_text(encoding='utf-8')}")

    def kill_watch(self) -> None:
        """Kill -9 the watch and the job that it runs, as a power cut does."""
        if self.watch:
            os.killpg(self.watch.pid, signal.SIGKILL)
            self.watch.wait()
            self.watch = None

    def once(self, job: str) -> int:
        """Run a job as an external scheduler does, and return its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "buckler.cli", "watch", "--once", job],
            cwd=self.directory,
            env=dict(self.env),
            check=False,
            stdout=subprocess.DEVNULL,
        ).returncode

    def watched(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples in the watch."""
        text = _read(f"{self.metrics}/metrics") or ""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(value) for head, _, value in samples if all(each in head for each in wanted))

    def states(self, alert: str) -> set[str]:
        """Return the states, pending or firing, in which Prometheus holds an alert."""
        text = _read(f"{self.prometheus}/api/v1/alerts")
        alerts = json.loads(text)["data"]["alerts"] if text else []
        return {each["state"] for each in alerts if each["labels"]["alertname"] == alert}

    def wait_for_alert(self, alert: str, seconds: float = 240) -> float:
        """Return after how many seconds an alert fired."""
        return round(wait_until(lambda: "firing" in self.states(alert), seconds, f"the alert {alert}"), 1)

    def wait_until_scraped(self) -> None:
        """Wait until Prometheus has seen the service, and the watch if it runs: what counts from zero has begun."""
        for job in ("buckler-service", *(["buckler-watch"] if self.watch else [])):
            wait_until(lambda job=job: self.value(f'up{{job="{job}"}}') == 1, 60, f"a scrape of {job}")

    def value(self, query: str) -> float | None:
        """Return the value of a query's only or first series, None without one."""
        text = _read(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        found = json.loads(text)["data"]["result"] if text else []
        return float(found[0]["value"][1]) if found else None


@contextmanager
def platform(scene: Scene, watching: Mapping[str, Any] | None = None, **sections: Any) -> Iterator[Platform]:
    """Run service, watch and Prometheus on the drill's registry until the context ends.

    Args:
        scene: Has a champion already.
        watching: Changes to the section ``watch``, {} for none but that no job is due; None starts no watch.
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
        env = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        env |= {**scene.registry.env, "BUCKLER_WATCH_SERVICE_URL": service.url, "BUCKLER_TRAFFIC_URL": traffic}
        port, prometheus_port = free_port(), free_port()  # late: until it is taken, anybody may
        write_params(scene, directory, {"port": port, **(watching or {})}, sections)
        started = Platform(service, directory, f"http://127.0.0.1:{prometheus_port}", env)
        started.metrics = f"http://127.0.0.1:{port}"
        process = _start_prometheus(server, scene.directory / "prometheus", prometheus_port, service.port, port)
        try:
            if watching is not None:
                started.start_watch()
            started.wait_until_scraped()
            yield started
        finally:
            started.kill_watch()
            end(process)


def write_params(scene: Scene, directory: Path, watching: Mapping[str, Any], sections: Mapping[str, Any]) -> None:
    """Write the project's params.yaml with the drill's model and changes; no job is due unless they say so."""
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


def _start_prometheus(server: str, directory: Path, port: int, service: int, watch: int) -> "subprocess.Popen[bytes]":
    shutil.copytree(ROOT / "monitoring/prometheus", directory)
    for name, target in {"service": service, "watch": watch}.items():
        (directory / f"targets/{name}.yml").write_text(f"- targets: ['127.0.0.1:{target}']\n", encoding="utf-8")
    (directory / "targets/alertmanager.yml").write_text("[]\n", encoding="utf-8")
    log = (directory / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            server,
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/store",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    wait_until(lambda: _read(f"http://127.0.0.1:{port}/-/ready") is not None, START_SECONDS, "Prometheus to start")
    return process


def _read(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read().decode()
    except OSError:
        return None
