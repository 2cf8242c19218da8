"""The real service in processes of its own, started as an operator starts it, and what can be seen of it outside."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.registry import DrillError

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180
STARTED = "Service classifier initialized"  # BentoML's line when a worker is ready to answer
OWN = ("BUCKLER_", "BENTOML_")


@dataclass(frozen=True)
class Service:
    """A running service."""

    port: int
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Return its root address."""
        return f"http://127.0.0.1:{self.port}"

    def started(self) -> int:
        """Return how many workers ever became ready."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(STARTED)

    def workers(self) -> list[int]:
        """Return the process ids of its workers, lowest first."""
        return sorted(
            pid
            for pid in _descendants(self.process.pid)
            if b"bentoml_impl/worker" in _command(pid) or b"_bentoml_impl.worker" in _command(pid)
        )

    def megabytes(self) -> float:
        """Return the resident memory of all workers."""
        return sum(_resident_kilobytes(pid) for pid in self.workers()) / 1024

    def processor_seconds(self, pid: int) -> float:
        """Return how long a worker has computed, whatever else the machine did meanwhile."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (line.rpartition(" ") for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(value) for head, _, value in samples if all(each in head for each in wanted))

    def is_ready(self) -> bool:
        """Return whether /readyz reports ready."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def running(directory: Path, env: Mapping[str, str], *, workers: int = 1) -> Iterator[Service]:
    """Run the service with its state in ``directory`` until the context ends; all workers answer as it begins."""
    directory.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), directory / "service.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    environment |= {
        "BENTOML_HOME": str(directory / "bentoml"),
        "BUCKLER_RELEASES_DIR": str(directory / "releases"),
        "BUCKLER_AUDIT_LOG": str(directory / "audit/audit.jsonl"),
        "BUCKLER_TRAFFIC_URL": f"sqlite:///{directory / 'traffic.db'}",
        "BUCKLER_WORKERS": str(workers),
        "BUCKLER_FOLLOW_SECONDS": "1",
        "BUCKLER_FOLLOW_JITTER_SECONDS": "0",
        **env,
    }
    command = [sys.executable, "-m", "services.classifier", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    service = Service(port, log, process)
    try:
        wait_until(lambda: service.started() >= workers or process.poll() is not None, START_SECONDS, "it to start")
        if process.poll() is not None:
            raise DrillError(f"the service does not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
        yield service
    finally:
        end(process)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Return after how many seconds ``condition`` held.

    Raises:
        DrillError: It did not within ``seconds``.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise DrillError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server that was started in a session of its own, and what it started; kindly at first."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _descendants(pid: int) -> set[int]:
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, todo = set(), {pid}
    while todo:
        here = todo.pop()
        children = {child for child, parent in parents.items() if parent == here}
        found |= children
        todo |= children
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return 0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _resident_kilobytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
