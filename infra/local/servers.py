"""The servers of the platform: their commands and connections; starts and stops them together."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

from buckler.state import locks, paths
from infra.local import logs, monitoring, places, ports, processes
from infra.local.places import LocalError
from infra.local.ports import Ports
from infra.local.processes import START_SECONDS, Process, url

PATIENCE_SECONDS = START_SECONDS + 60  # for another `make up`


def up() -> list[str]:
    """Start every server that is not running, print all addresses, and return the names of those it started.

    What is left of a server that was killed is ended first. Servers that run are not touched, except that Prometheus
    and Alertmanager read changed files.

    Raises:
        LocalError: A port is taken, a server does not start, or changed files are refused; those that were started are
            stopped again, the others run on.
    """
    places.refuse_root()
    if others := processes.foreign([*ports.TITLES]):
        raise LocalError(processes.describe_foreign(others))
    places.run_directory().mkdir(parents=True, exist_ok=True)
    with _alone():
        return _up()


def stop(names: list[str] | None = None) -> list[str]:
    """Stop the servers ``names``, by default all; return those that ran.

    Writes nothing that it needs: it works on a full or read-only disk, without settings and without keys.

    Raises:
        LocalError: Another user runs some of them; the others are stopped.
    """
    with _alone(necessary=False):
        return _stop([*ports.TITLES] if names is None else names)


def _up() -> list[str]:
    names = [process.name for process in described(ports.current())]
    before = {name: pid for name in names if (pid := processes.running(name))}
    for name, pid in before.items():
        processes.record(name, pid)  # somebody may have removed it
    idle = [name for name in names if name not in before]
    if left := [name for name in idle if processes.remains(name)]:
        print(f"  ending what is left of {', '.join(left)} ...", flush=True)
        processes.stop(left)
    at = ports.choose(names, before)
    wanted = described(at)
    changed = monitoring.configure(at)
    print(f"  starting {', '.join(idle)} ..." if idle else "  all servers run already", flush=True)
    try:
        for process in wanted:
            if process.name in idle:
                processes.start(process)
        if not processes.running(logs.NAME):
            processes.start(_rotation())
        for process in wanted:
            processes.wait(process)
    except BaseException:
        _stop(idle)
        raise
    for process in wanted:
        if process.name in changed and process.name in before:
            monitoring.reload(process)
    _print_pages(wanted)
    return idle


def _stop(names: list[str]) -> list[str]:
    try:
        return processes.stop(names)
    finally:
        left = {name for name in ports.TITLES if processes.running(name)} | {*processes.foreign([*ports.TITLES])}
        ports.forget({*names} - left)
        if not left:
            with suppress(LocalError):  # that of another user ends by itself
                processes.stop([logs.NAME])


@contextmanager
def _alone(*, necessary: bool = True) -> Iterator[None]:
    """Keep another `make up` of this project waiting; wait for it if that is ``necessary``.

    Raises:
        LocalError: It takes too long.
        OSError: The lock cannot be opened.
    """
    with ExitStack() as stack:
        deadline, lock = time.monotonic() + PATIENCE_SECONDS, places.run_directory() / "lock"
        for tries in count():
            try:
                stack.enter_context(locks.exclusive_at_once(lock))
                break
            except (locks.HeldError, OSError) as error:
                if not necessary:
                    break
                if isinstance(error, OSError):
                    raise
            if not tries:
                print("  waiting for another `make up` of this project ...", flush=True)
            if time.monotonic() > deadline:
                raise LocalError(f"another `make up` of this project has held {lock} for {PATIENCE_SECONDS} s; end it")
            time.sleep(0.5)
        yield


def described(at: Ports) -> list[Process]:
    """Return the servers that this machine can run, in the order of starting, with the ports ``at``."""
    import yaml  # not for `down`, which must work without packages

    settings = yaml.safe_load((places.ROOT / "params.yaml").read_text(encoding="utf-8"))
    model = {"BUCKLER_MODEL_NAME": settings["publish"]["model_name"]}
    return [_mlflow(at), _service(at, model), _watch(at), _console(at, model), *_monitoring(at)]


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
    config = monitoring.directory()
    found = []
    if server := shutil.which("prometheus"):
        command = [server, f"--config.file={config}/prometheus/prometheus.yml", f"--storage.tsdb.path={config}/data"]
        # The objectives of docs/slo.md cover 30 days; Prometheus keeps 15 by default.
        command += ["--storage.tsdb.retention.time=35d", *_web(at["prometheus"])]
        # Debian's package has the older page instead of /alerts.
        pages = {"Prometheus": "/", "alerts": "/classic/alerts /alerts"}
        found.append(Process("prometheus", command, at["prometheus"], "/-/ready", pages))
    if alertmanager := shutil.which("prometheus-alertmanager"):
        command = [alertmanager, f"--config.file={config}/alertmanager/alertmanager.yml"]
        command += [f"--storage.path={config}/alerts", *_web(at["alertmanager"]), "--cluster.listen-address="]
        found.append(Process("alertmanager", command, at["alertmanager"], "/-/ready", {"Alertmanager": "/"}))
    return found


def _web(port: int) -> list[str]:
    # By default, links in messages have this machine's host name, under which the server does not answer.
    return [f"--web.listen-address=127.0.0.1:{port}", f"--web.external-url={url(port)}/"]


def _rotation() -> Process:
    """Return the process that keeps the logs small; it has no port."""
    command = [sys.executable, "-m", "infra.local.logs", str(places.run_directory())]
    return Process(logs.NAME, command, 0, "", {})


def _print_pages(wanted: list[Process]) -> None:
    for process in wanted:
        for name, addresses in process.pages.items():
            print(f"  {name:<18} {processes.first_page(process, addresses.split())}")
    missing = {"prometheus", "alertmanager"} - {process.name for process in wanted}
    if missing:
        print(f"  not installed: {', '.join(sorted(missing))} (Debian: apt install prometheus prometheus-alertmanager)")
    if not processes.answers(url(ports.current()["service"]) + "/readyz"):
        print("  the service has no valid champion and answers 503 until `make demo` has made one")
