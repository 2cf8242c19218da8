"""Runs the platform as processes on this machine: `python infra/local.py up | down | demo`.

Each process has a pid file and a log in .buckler/run/. Ports: `watch.port` of params.yaml for the watch, and
BUCKLER_MLFLOW_PORT, BUCKLER_SERVICE_PORT, BUCKLER_CONSOLE_PORT, BUCKLER_PROMETHEUS_PORT, BUCKLER_ALERTMANAGER_PORT for
the others. Prometheus and Alertmanager are started if they are installed. The service is bound to loopback and asks for
no keys. If it should (BUCKLER_REQUIRE_KEYS=always, or another BUCKLER_HOST), set BUCKLER_CLIENT_KEY for demo and
console, BUCKLER_WATCH_KEY for the watch, and BUCKLER_SCRAPE_KEY_FILE to the file with Prometheus' key.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from buckler.state import paths

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / paths.RUN
BIN = Path(sys.executable).parent
START_SECONDS = 300
PORTS = {"mlflow": 5000, "service": 3000, "console": 8088, "prometheus": 9090, "alertmanager": 9093}


class LocalError(Exception):
    """A problem that the user can fix, as the message explains."""


@dataclass(frozen=True)
class Process:
    """One server: how to start it and where it answers.

    Attributes:
        health: Path that answers once the server is up.
        pages: Name of each page -> its path, or alternative paths separated by blanks.
    """

    name: str
    command: list[str]
    port: int
    health: str
    pages: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def pid_file(self) -> Path:
        """Return the file with its process id."""
        return RUN / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        """Return the file with its output."""
        return RUN / f"{self.name}.log"

    @property
    def address(self) -> str:
        """Return its root address."""
        return _url(self.port)


def processes() -> list[Process]:
    """Return the servers that this machine can run, in the order of starting."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    ports = {name: _port(name.upper(), default) for name, default in PORTS.items()}
    ports["watch"] = int(settings["watch"]["port"])
    model = {"BUCKLER_MODEL_NAME": settings["publish"]["model_name"]}
    return [*_servers(ports, model), _console(ports, model), *_monitoring(ports)]


def _servers(ports: Mapping[str, int], model: Mapping[str, str]) -> list[Process]:
    return [
        Process("mlflow", [*_mlflow(), "--port", str(ports["mlflow"])], ports["mlflow"], "/health", {"MLflow UI": "/"}),
        Process(
            "service",
            [sys.executable, "-m", "services.classifier", "--port", str(ports["service"])],
            ports["service"],
            "/livez",
            {"API docs": "/docs", "predictions": "/predict", "service metrics": "/metrics"},
            model,
        ),
        Process(
            "watch",
            [str(BIN / "buckler"), "watch"],
            ports["watch"],
            "/metrics",
            {"watch metrics": "/metrics"},
            {"BUCKLER_WATCH_SERVICE_URL": _url(ports["service"])},
        ),
    ]


def _console(ports: Mapping[str, int], model: Mapping[str, str]) -> Process:
    """Return the console with the addresses of the other servers."""
    others = {
        f"BUCKLER_{name.upper()}_URL": _url(ports[name]) for name in ("service", "prometheus", "alertmanager", "watch")
    }
    env = {**others, **model, "BUCKLER_CONSOLE_PORT": str(ports["console"])}
    command = [sys.executable, "-m", "services.console"]
    return Process("console", command, ports["console"], "/livez", {"console": "/"}, env)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _port(name: str, default: int) -> int:
    return int(os.environ.get(f"BUCKLER_{name}_PORT", default))


def _mlflow() -> list[str]:
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{ROOT / paths.MLFLOW_DATABASE}")
    return [
        *(str(BIN / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1"),
        *("--backend-store-uri", store, "--artifacts-destination", str(ROOT / paths.MLFLOW_ARTIFACTS)),
    ]


def _monitoring(ports: Mapping[str, int]) -> list[Process]:
    """Return Prometheus and Alertmanager if installed, on a copy of their files with our ports."""
    config = ROOT / paths.MONITORING
    _configure(config, ports)
    found = []
    if server := shutil.which("prometheus"):
        command = [server, f"--config.file={config}/prometheus/prometheus.yml", f"--storage.tsdb.path={config}/data"]
        # The objectives of docs/slo.md cover 30 days; Prometheus keeps 15 by default.
        command += ["--storage.tsdb.retention.time=35d", f"--web.listen-address=127.0.0.1:{ports['prometheus']}"]
        # Debian's package has the older page instead of /alerts.
        pages = {"Prometheus": "/", "alerts": "/classic/alerts /alerts"}
        found.append(Process("prometheus", command, ports["prometheus"], "/-/ready", pages))
    if alertmanager := shutil.which("prometheus-alertmanager"):
        command = [alertmanager, f"--config.file={config}/alertmanager/alertmanager.yml"]
        command += [f"--storage.path={config}/alerts", f"--web.listen-address=127.0.0.1:{ports['alertmanager']}"]
        command += ["--cluster.listen-address="]
        found.append(Process("alertmanager", command, ports["alertmanager"], "/-/ready", {"Alertmanager": "/"}))
    return found


def _configure(config: Path, ports: Mapping[str, int]) -> None:
    # Remove rule files of earlier versions: Prometheus reads every file in this folder.
    shutil.rmtree(config / "prometheus/rules", ignore_errors=True)
    for part in ("prometheus", "alertmanager"):
        shutil.copytree(ROOT / "monitoring" / part, config / part, dirs_exist_ok=True)
    for name in ("service", "watch", "alertmanager"):
        target_file = config / f"prometheus/targets/{name}.yml"
        target_file.write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{ports[name]}"]}]), encoding="utf-8")
    if key := os.environ.get("BUCKLER_SCRAPE_KEY_FILE"):
        _copy_key(Path(key), config / "prometheus/keys/service.key")


def _copy_key(source: Path, target: Path) -> None:
    try:
        shutil.copy(source, target)  # with its mode
    except OSError as error:
        raise LocalError(
            f"BUCKLER_SCRAPE_KEY_FILE: cannot read {source} ({error.strerror}); "
            f"create it with `buckler keys create --role operate --name prometheus --out {source}`"
        ) from error


def up() -> None:
    """Start every process that is not running; stop all if one does not start."""
    RUN.mkdir(parents=True, exist_ok=True)
    wanted = processes()
    try:
        for process in wanted:
            if not _running(process):
                _start(process)
        for process in wanted:
            _wait(process)
    except BaseException:
        down()
        raise
    for process in wanted:
        for name, addresses in process.pages.items():
            print(f"  {name:<18} {_first_page(process, addresses.split())}")
    missing = {"prometheus", "alertmanager"} - {process.name for process in wanted}
    if missing:
        print(f"  not installed: {', '.join(sorted(missing))} (Debian: apt install prometheus prometheus-alertmanager)")
    if not _answers(_service(wanted).address + "/readyz"):
        print("  the service has no valid champion and answers 503 until `make demo` has made one")


def down() -> None:
    """Stop all running processes, with SIGTERM first; not an error if none runs."""
    running = [(p, pid) for p in processes() if (pid := _running(p))]
    for _, pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    for process, pid in running:
        while _running(process) and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    for process in processes():
        process.pid_file.unlink(missing_ok=True)


def demo(out: Path | None = None) -> None:
    """Run the pipeline, promote, serve, send a clean and an attacked picture, stop; write the duration into ``out``."""
    began = time.monotonic()
    _step("pipeline", BIN / "dvc", "repro")
    _step("promote the challenger", BIN / "buckler", "promote")
    print("\n== start the servers", flush=True)
    already = any(_running(process) for process in processes())
    up()
    try:
        _step("ask the service", sys.executable, "-m", "benchmarks.ask", "--url", _service(processes()).address)
    finally:
        if not already:
            down()
    how = "still running" if already else "stopped; `make up` starts them and leaves them running"
    seconds = round(time.monotonic() - began)
    print(f"\nsuccess: pictures to served answers in {seconds} s (servers {how})")
    if out:
        _step("write the time", sys.executable, "-m", "benchmarks.demo", "--seconds", str(seconds), "--out", out)


def _step(title: str, *command: str | Path) -> None:
    print(f"\n== {title}", flush=True)
    if code := subprocess.call([str(part) for part in command], cwd=ROOT, env=_environment()):
        raise LocalError(f"`{' '.join(str(part) for part in command)}` ended with exit code {code}; see above")


def _start(process: Process) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", process.port)) == 0:
            raise LocalError(
                f"port {process.port} for {process.name} is taken by another program; "
                "stop it or choose another port (see infra/local.py)"
            )
    with process.log.open("wb") as log:
        child = subprocess.Popen(
            process.command,
            cwd=ROOT,
            env=_environment() | dict(process.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.pid_file.write_text(str(child.pid), encoding="utf-8")


def _wait(process: Process) -> None:
    print(f"  waiting for {process.name} ...", flush=True)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if _answers(process.address + process.health):
            return
        if not _running(process):
            break
        time.sleep(0.3)
    tail = "\n".join(process.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise LocalError(f"{process.name} did not start; the end of {process.log}:\n{tail}")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _first_page(process: Process, paths: list[str]) -> str:
    """Return the address of the first path that answers, else of the last path."""
    addresses = [process.address + path for path in paths]
    return next((each for each in addresses[:-1] if _answers(each)), addresses[-1])


def _service(found: list[Process]) -> Process:
    return next(process for process in found if process.name == "service")


def _running(process: Process) -> int | None:
    """Return the pid if the process runs, else None; reap it if it is a finished child."""
    try:
        pid = int(process.pid_file.read_text(encoding="utf-8"))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        os.kill(pid, 0)
        return pid if _is_ours(pid) else None
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def _is_ours(pid: int) -> bool:
    # A pid file can survive a reboot; the pid may then belong to another process.
    if not Path("/proc").is_dir():
        return True
    try:
        return Path(f"/proc/{pid}/cwd").resolve() == ROOT
    except OSError:
        return False


def _environment() -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    # No usage data goes to the vendors of the tools.
    silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "BENTOML_DO_NOT_TRACK": "True"}
    return {**os.environ, **silent, "PATH": path}


def main() -> None:
    """Parse the one argument."""
    actions = {"up": up, "down": down, "demo": demo}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=actions)
    parser.add_argument("--results", type=Path, help="folder into which `demo` writes its duration, docs/results")
    given = parser.parse_args()
    try:
        demo(given.results) if given.action == "demo" else actions[given.action]()
    except LocalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; finished stages are kept, the next run resumes there")


if __name__ == "__main__":
    main()
