"""The servers of the platform: their commands and connections; starts and stops them together."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from buckler.state import paths
from infra.local import places, ports, processes
from infra.local.places import LocalError
from infra.local.ports import Ports
from infra.local.processes import Process, url


def up() -> list[str]:
    """Start every server that is not running, print all addresses, and return the names of those it started.

    Raises:
        LocalError: A port is taken, or a server does not start; those that were started are stopped again.
    """
    places.run_directory().mkdir(parents=True, exist_ok=True)
    names = [process.name for process in described(ports.current())]
    idle = [name for name in names if not processes.running(name)]
    at = ports.choose(names, [name for name in names if name not in idle])
    wanted = described(at)
    configure_monitoring(at)
    print(f"  starting {', '.join(idle)} ..." if idle else "  all servers run already", flush=True)
    try:
        for process in wanted:
            if process.name in idle:
                processes.start(process)
        for process in wanted:
            processes.wait(process)
    except BaseException:
        stop(idle)
        raise
    _print_pages(wanted)
    return idle


def stop(names: list[str] | None = None) -> None:
    """Stop the servers ``names``, by default all; not an error if none runs."""
    known = ports.current()
    processes.stop(list(known) if names is None else names)
    ports.remember({name: port for name, port in known.items() if processes.running(name)})


def described(at: Ports) -> list[Process]:
    """Return the servers that this machine can run, in the order of starting, with the ports ``at``."""
    settings = yaml.safe_load((places.ROOT / "params.yaml").read_text(encoding="utf-8"))
    model = {"BUCKLER_MODEL_NAME": settings["publish"]["model_name"]}
    return [_mlflow(at), _service(at, model), _watch(at), _console(at, model), *_monitoring(at)]


def configure_monitoring(at: Ports) -> None:
    """Write the configuration of Prometheus and Alertmanager, with the ports ``at``.

    Raises:
        LocalError: The file in BUCKLER_SCRAPE_KEY_FILE cannot be read.
    """
    config = places.ROOT / paths.MONITORING
    # Remove rule files of earlier versions: Prometheus reads every file in this folder.
    shutil.rmtree(config / "prometheus/rules", ignore_errors=True)
    for part in ("prometheus", "alertmanager"):
        shutil.copytree(places.ROOT / "monitoring" / part, config / part, dirs_exist_ok=True)
    for name in ("service", "watch", "alertmanager"):
        target_file = config / f"prometheus/targets/{name}.yml"
        target_file.write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{at[name]}"]}]), encoding="utf-8")
    if key := os.environ.get("BUCKLER_SCRAPE_KEY_FILE"):
        _copy_key(Path(key), config / "prometheus/keys/service.key")


def _mlflow(at: Ports) -> Process:
    store = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{places.ROOT / paths.MLFLOW_DATABASE}")
    command = [
        *(str(places.BIN / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(at["mlflow"])),
        *("--backend-store-uri", store, "--artifacts-destination", str(places.ROOT / paths.MLFLOW_ARTIFACTS)),
    ]
    return Process("mlflow", command, at["mlflow"], "/health", {"MLflow UI": "/"})


def _service(at: Ports, model: Mapping[str, str]) -> Process:
    command = [sys.executable, "-m", "services.classifier", "--port", str(at["service"])]
    pages = {"API docs": "/docs", "predictions": "/predict", "service metrics": "/metrics"}
    return Process("service", command, at["service"], "/livez", pages, model)


def _watch(at: Ports) -> Process:
    command = [str(places.BIN / "buckler"), "watch", "--port", str(at["watch"])]
    env = {"BUCKLER_WATCH_SERVICE_URL": url(at["service"])}
    return Process("watch", command, at["watch"], "/metrics", {"watch metrics": "/metrics"}, env)


def _console(at: Ports, model: Mapping[str, str]) -> Process:
    """Return the console with the addresses of the other servers."""
    others = {
        f"BUCKLER_{name.upper()}_URL": url(at[name]) for name in ("service", "prometheus", "alertmanager", "watch")
    }
    env = {**others, **model, "BUCKLER_CONSOLE_PORT": str(at["console"])}
    command = [sys.executable, "-m", "services.console"]
    return Process("console", command, at["console"], "/livez", {"console": "/"}, env)


def _monitoring(at: Ports) -> list[Process]:
    """Return Prometheus and Alertmanager if installed, on a copy of their files with our ports."""
    config = places.ROOT / paths.MONITORING
    found = []
    if server := shutil.which("prometheus"):
        command = [server, f"--config.file={config}/prometheus/prometheus.yml", f"--storage.tsdb.path={config}/data"]
        # The objectives of docs/slo.md cover 30 days; Prometheus keeps 15 by default.
        command += ["--storage.tsdb.retention.time=35d", f"--web.listen-address=127.0.0.1:{at['prometheus']}"]
        # Debian's package has the older page instead of /alerts.
        pages = {"Prometheus": "/", "alerts": "/classic/alerts /alerts"}
        found.append(Process("prometheus", command, at["prometheus"], "/-/ready", pages))
    if alertmanager := shutil.which("prometheus-alertmanager"):
        command = [alertmanager, f"--config.file={config}/alertmanager/alertmanager.yml"]
        command += [f"--storage.path={config}/alerts", f"--web.listen-address=127.0.0.1:{at['alertmanager']}"]
        command += ["--cluster.listen-address="]
        found.append(Process("alertmanager", command, at["alertmanager"], "/-/ready", {"Alertmanager": "/"}))
    return found


def _copy_key(source: Path, target: Path) -> None:
    try:
        shutil.copy(source, target)  # with its mode
    except OSError as error:
        raise LocalError(
            f"BUCKLER_SCRAPE_KEY_FILE: cannot read {source} ({error.strerror}); "
            f"create it with `buckler keys create --role operate --name prometheus --out {source}`"
        ) from error


def _print_pages(wanted: list[Process]) -> None:
    for process in wanted:
        for name, addresses in process.pages.items():
            print(f"  {name:<18} {processes.first_page(process, addresses.split())}")
    missing = {"prometheus", "alertmanager"} - {process.name for process in wanted}
    if missing:
        print(f"  not installed: {', '.join(sorted(missing))} (Debian: apt install prometheus prometheus-alertmanager)")
    if not processes.answers(url(ports.current()["service"]) + "/readyz"):
        print("  the service has no valid champion and answers 503 until `make demo` has made one")
