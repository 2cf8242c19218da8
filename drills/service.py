"""The real service as separate processes, started as an operator starts it and observed from outside."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, servers
from benchmarks.load import Load
from buckler.modality.picture import images, synthetic
from drills.registry import DrillError

COMMAND = ("-m", "services.classifier")  # of Python
START_SECONDS = 180
READY = "Service classifier initialized"  # BentoML's log line for each worker that is ready to answer
PICTURE_SIZE = 64


@dataclass(frozen=True)
class RunningService:
    """A running service.

    Attributes:
        port: On loopback.
        directory: Its log, audit log, releases and BentoML's files.
        process: The supervisor, which starts the workers.
    """

    port: int
    directory: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Return its root address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Return the file with its output."""
        return self.directory / "service.log"

    @property
    def audit(self) -> Path:
        """Return its audit log."""
        return self.directory / "audit/audit.jsonl"

    @property
    def home(self) -> Path:
        """Return BentoML's directory."""
        return self.directory / "bentoml"

    def ready_workers(self) -> int:
        """Return how many workers have become ready since the start, ended ones included."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(READY)

    def workers(self) -> list[int]:
        """Return the process ids of its workers, in ascending order."""
        return sorted(
            pid
            for pid in servers.family(self.process.pid)
            if b"bentoml_impl/worker" in servers.command_of(pid) or b"_bentoml_impl.worker" in servers.command_of(pid)
        )

    def megabytes(self) -> float:
        """Return the resident memory of all workers."""
        return sum(servers.resident_mib(pid) for pid in self.workers())

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            return metric_sum(response.read().decode(), name, labels)

    def clients(self, count: int) -> AbstractContextManager[Load]:
        """Run ``count`` clients that send the same picture again and again until the context ends."""
        return load.closed_loop(self.port, [predict_request()], clients=count, keep_open=False)

    def storm(self, per_second: float, seconds: float) -> Load:
        """Send pictures at a fixed rate, whether or not earlier ones were answered."""
        return load.open_loop(self.port, predict_request(), per_second=per_second, seconds=seconds)


def predict_request() -> bytes:
    """Return a request to /predict with a small drawn picture; the connection is closed after it."""
    picture = images.to_png(synthetic.draw("benign", 0, seed=3, size=PICTURE_SIZE))
    return load.post("/predict", *load.form(picture, "image/png"), keep_open=False)


def metric_sum(exposition: str, name: str, labels: Mapping[str, str]) -> float:
    """Return the sum of a metric's samples with ``labels`` in Prometheus' text format."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = (line for line in exposition.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    samples = (line.rpartition(" ") for line in lines)
    return sum(float(value) for series, _, value in samples if all(each in series for each in wanted))


@contextmanager
def running(
    directory: Path, env: Mapping[str, str], *, workers: int = 1, command: Sequence[str] = COMMAND
) -> Iterator[RunningService]:
    """Run the service with its files in ``directory`` until the context ends; it begins when all workers are ready.

    Raises:
        DrillError: The service does not start; the message contains its log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = servers.free_port()
    settings = {
        "BENTOML_HOME": str(directory / "bentoml"),
        "BUCKLER_RELEASES_DIR": str(directory / "releases"),
        "BUCKLER_AUDIT_LOG": str(directory / "audit/audit.jsonl"),
        "BUCKLER_TRAFFIC_URL": f"sqlite:///{directory / 'traffic.db'}",
        "BUCKLER_WORKERS": str(workers),
        **env,
    }
    log = directory / "service.log"
    with servers.started(
        [sys.executable, *command, "--port", str(port)], env=servers.environment(settings), log=log
    ) as process:
        service = RunningService(port, directory, process)
        wait_until(
            lambda: service.ready_workers() >= workers or process.poll() is not None,
            START_SECONDS,
            "the service to start",
        )
        if process.poll() is not None:
            raise DrillError(f"the service does not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
        yield service


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait for ``condition`` and return the seconds that it took.

    Raises:
        DrillError: It is still false after ``seconds``.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise DrillError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)
    return time.monotonic() - began
