"""Compares the service with other model servers on one network, over HTTP.

Reads   pictures (``--images``, class-per-folder; else the seeded generator), weights of VGG-19's base (``--weights``;
        else seeded random ones), section train of params.yaml
Writes  docs/results/serving.json, docs/results/serving.png

The servers run one after the other. Closed-loop clients on loopback send the same JPEG pictures: each client waits for
its answer before the next request. The first requests warm up and are not counted. Buckler's service is complete: front
door, decoder, detector, audit log. Their cost is the difference to BentoML with the same engine alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load, servers
from benchmarks import results as documents
from benchmarks.signing import write_verdict
from benchmarks.tables import markdown
from buckler import params
from buckler.errors import BucklerError
from buckler.modality.table import find as modality_called
from buckler.trust import keys, verdict
from pipelines.settings import TrainParams
from pipelines.stage import stage

COMMAND = "python -m benchmarks.serving --images DIR --weights FILE"
OURS, BARE = "buckler", "bentoml + openvino"
PEERS = ("fastapi + keras", "mlflow models serve")
START_SECONDS = 180
FASTER, AROUND, P50_MS, MEMORY_MIB, READY_SECONDS = 12.0, 0.20, 30.0, 700.0, 10.0
# All clients are answered, however slowly: the usual limits refuse some of many clients at once.
LIMITS = {"BUCKLER_MAX_IN_PROGRESS": "256", "BUCKLER_REQUEST_TIMEOUT_SECONDS": "60"}
# Command without its last argument, the port; path of predictions; path that answers when the server is ready.
SERVERS: Mapping[str, tuple[list[str], str, str]] = {
    OURS: (["services.classifier", "--port"], "/predict", "/readyz"),
    BARE: (
        ["bentoml", "serve", "benchmarks.peers.bentoml_bare:Bare", "--host", "127.0.0.1", "--port"],
        "/predict",
        "/readyz",
    ),
    PEERS[0]: (
        ["uvicorn", "benchmarks.peers.fastapi_keras:app", "--log-level", "warning", "--port"],
        "/predict",
        "/docs",
    ),
    PEERS[1]: (
        ["mlflow", "models", "serve", "--env-manager", "local", "--model-uri", "mlflow-model", "--port"],
        "/invocations",
        "/ping",
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of one measurement: ``pictures`` sent in turn, for ``seconds`` at each number of ``clients``."""

    image_size: int
    network: str = "vgg19"
    weights: str = "none"
    images: str = ""
    pictures: int = 64
    clients: tuple[int, ...] = (1, 4, 16)
    seconds: float = 20.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class ServerResult:
    """One server at one number of clients.

    Attributes:
        p50_ms, p99_ms: Latencies; None without an answer.
        errors: Requests without an answer or with another status than 200, except for ``refused``.
        refused: Requests that the server refused because it had too many.
        requests: All requests, ``errors`` and ``refused`` included.
        cpu_ms: Processor time of all its processes for one answer; other load on the machine changes it little.
        worker_memory_mib: Resident memory of its largest process, after the load.
        ready_seconds: Time from its start until it is ready.
    """

    server: str
    clients: int
    requests_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    refused: int
    requests: int
    cpu_ms: float | None
    worker_memory_mib: float
    ready_seconds: float


def run(plan: Plan, out: Path) -> None:
    """Measure, write the results and print the tables."""
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        pictures = prepare(plan, Path(scratch))
        load_before = os.getloadavg()[0]
        results = [result for name in SERVERS for result in measure(name, plan, Path(scratch), pictures)]
    tables = {"load": _load(results), "targets": _targets(compare(results))}
    settings = asdict(plan) | {"images": Path(plan.images).name, "weights": Path(plan.weights).name, "limits": LIMITS}
    settings |= environment(load_before)
    written = documents.new("serving", COMMAND, tables, seeds=[plan.seed], settings=settings).write(out)
    _draw(results, out / "serving.png")
    print("\n\n".join(markdown(table) for table in tables.values()))
    print(f"wrote {written} and serving.png")


def prepare(plan: Plan, directory: Path) -> list[bytes]:
    """Write a signed release of the network and MLflow's copy into ``directory``; return the pictures as JPEG.

    The head is random: wrong answers take the same time as correct ones.
    """
    from benchmarks import pictures
    from buckler.models import checkpoint, export, runtime
    from buckler.models.networks import table as networks
    from buckler.models.networks.base import HeadShape
    from buckler.serving import selftest

    pixels, truth, labels = pictures.sample(plan.images, plan.pictures, size=plan.image_size, seed=plan.seed)
    cfg, architecture = params.load("train", TrainParams), networks.find(plan.network)
    head = HeadShape(cfg.hidden)
    network = architecture.build(
        modality_called("picture").shape(plan.image_size), len(labels), head=head, weights=plan.weights, seed=cfg.seed
    )
    model = directory / "release" / verdict.MODEL_DIR
    info = checkpoint.ModelInfo(
        labels, (), modality_called("picture").shape(plan.image_size), "none", architecture=plan.network
    )
    checkpoint.save(network, info, model)
    export.write(network, pixels[:32], model)
    runtime.RuntimeInfo(runtime.native(), export.ENGINE).save(model)
    screening(runtime.Runtime.load(model), architecture, pixels, truth).save(model)
    selftest.write(model)
    _sign(directory)
    _save_for_mlflow(network, directory / "mlflow-model")
    return [_jpeg(each) for each in pixels]


def screening(judge: Any, network: Any, pixels: Any, truth: Any) -> Any:
    """Return a screening that takes as long as one that was fitted on attacks; its shapes are the same."""
    from buckler.detection.adversarial import AdversarialDetector
    from buckler.detection.out_of_distribution import OutOfDistributionDetector
    from buckler.detection.quality import QualityLimits
    from buckler.detection.screening import Screening
    from buckler.modality.picture import benign_changes

    clean = judge.forward(pixels)
    moved = judge.forward(benign_changes.noisy(pixels, np.random.default_rng(0), epsilon=8 / 255))
    return Screening(
        AdversarialDetector.fit(clean, [clean], [moved], read=network.trace_columns, probed=network.probe_columns),
        OutOfDistributionDetector.fit(clean.features, truth, read=network.cloud_columns),
        QualityLimits.fit(pixels, modality_called("picture")),
        threshold=10.0,
        max_fpr=0.05,
        confidence=0.95,
        strangeness=10.0,
        min_confidence=0.6,
        temperature=1.5,
        dangerous=(1,),
        min_sensitivity=0.95,
        modality="picture",
        danger_limit=0.2,
    )


def measure(
    name: str, plan: Plan, directory: Path, pictures: Sequence[bytes], *, checkout: Path = servers.ROOT
) -> list[ServerResult]:
    """Start the server ``name``, measure it at every number of clients, stop it.

    Args:
        name: Key of ``SERVERS``.
        plan: Numbers of clients and seconds.
        directory: The directory with the release that ``prepare`` wrote.
        pictures: JPEG files to send.
        checkout: The checkout whose server runs.
    """
    _, path, _ = SERVERS[name]
    bodies = [_as_json(each, plan.image_size) if name == PEERS[1] else load.form(each) for each in pictures]
    requests = [load.post(path, *body) for body in bodies]
    results = []
    with _server(name, directory, checkout) as (port, pid, ready):
        _ask(port, requests, clients=4, seconds=min(3.0, plan.seconds))
        for clients in plan.clients:
            before = _cpu_seconds(pid)
            found = _ask(port, requests, clients=clients, seconds=plan.seconds)
            spent = 1000 * (_cpu_seconds(pid) - before)
            latencies = [1000 * seconds for seconds in found.latencies()]
            p50, p99 = np.percentile(latencies, (50, 99)).round(1).tolist() if latencies else (None, None)
            results.append(
                ServerResult(
                    server=name,
                    clients=clients,
                    requests_per_second=round(len(latencies) / found.seconds(), 2),
                    p50_ms=p50,
                    p99_ms=p99,
                    errors=found.failed() - found.refused(),
                    refused=found.refused(),
                    requests=len(found.requests),
                    cpu_ms=round(spent / len(latencies), 1) if latencies else None,
                    worker_memory_mib=round(max(map(servers.resident_mib, servers.family(pid))), 1),
                    ready_seconds=round(ready, 1),
                )
            )
            print(f"{name}, clients: {clients}, {results[-1].requests_per_second} requests/s", file=sys.stderr)
    return results


def _ask(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> load.Load:
    with load.closed_loop(port, requests, clients=clients, keep_open=True) as found:
        time.sleep(seconds)
    return found


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a server and all its descendants."""
    return sum(map(servers.cpu_seconds, servers.family(pid)))


def compare(results: Sequence[ServerResult]) -> list[dict[str, Any]]:
    """Return the targets for two cores with AMX, the measured values, and whether the targets are reached."""
    most = max(result.clients for result in results)
    rate = {r.server: r.requests_per_second for r in results if r.clients == most}
    alone = next(r for r in results if r.server == OURS and r.clients == min(x.clients for x in results))
    memory = max(r.worker_memory_mib for r in results if r.server == OURS)
    fastest = max(rate[peer] for peer in PEERS)
    times, around = rate[OURS] / max(fastest, 1e-9), 1 - rate[OURS] / max(rate[BARE], 1e-9)
    p50 = alone.p50_ms if alone.p50_ms is not None else float("inf")
    rows = (
        (f"p50 at one client at most {P50_MS:g} ms", f"{p50:.1f} ms", p50 <= P50_MS),
        (f"at least {FASTER:g} times both peers at {most} clients", f"{times:.1f} times", times >= FASTER),
        (f"front door, detector and log at most {AROUND:.0%} of the throughput", f"{around:.0%}", around <= AROUND),
        (f"a worker's memory at most {MEMORY_MIB:g} MiB", f"{memory:.0f} MiB", memory <= MEMORY_MIB),
        (f"ready within {READY_SECONDS:g} s", f"{alone.ready_seconds:.1f} s", alone.ready_seconds <= READY_SECONDS),
    )
    return [{"name": name, "measured": measured, "reached": reached} for name, measured, reached in rows]


def environment(load_before: float) -> dict[str, Any]:
    """Return the machine's load average before the run, its number formats, and the versions of the libraries."""
    import platform
    from importlib.metadata import version

    from buckler.compute.machine import cpu_flags
    from buckler.models.runtime import native

    return {
        "load_average_before": round(load_before, 1),
        "flags": {flag: flag in cpu_flags() for flag in ("amx_int8", "amx_bf16", "avx512_vnni", "avx512_bf16")},
        "served_in": native()[0],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("bentoml", "openvino", "keras", "tensorflow-cpu", "fastapi", "mlflow")},
        },
    }


def _jpeg(pixels: Any) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(buffer, format="JPEG", quality=92)
    return buffer.getvalue()


def _sign(directory: Path) -> None:
    bundle = directory / "release"
    (bundle / verdict.EVIDENCE_DIR).mkdir()
    (bundle / verdict.EVIDENCE_DIR / "note.txt").write_text("made for a benchmark, not by a gate\n")
    keys.generate_key_pair(directory)
    write_verdict(bundle, directory)


def _save_for_mlflow(network: Any, destination: Path) -> None:
    import mlflow.tensorflow

    from buckler.models.networks import vgg

    layers = {"buckler>ImageNetNormalisation": vgg.ImageNetNormalisation}
    mlflow.tensorflow.save_model(network, str(destination), custom_objects=layers)


def _as_json(picture: bytes, size: int) -> tuple[str, bytes]:
    from buckler.modality.picture.images import load_pixels

    pixels = load_pixels(picture, size=size)
    return "application/json", json.dumps({"inputs": [np.round(pixels, 4).tolist()]}).encode()


@contextmanager
def _server(name: str, directory: Path, checkout: Path) -> Iterator[tuple[int, int, float]]:
    """Run a server until the context ends; give its port, its process id and the seconds until it was ready."""
    port = servers.free_port()
    arguments, _, ready = SERVERS[name]
    python = sys.executable if checkout == servers.ROOT else str(checkout / ".venv/bin/python")
    command = [python, "-m", *(a.replace("mlflow-model", str(directory / "mlflow-model")) for a in arguments)]
    log = directory / f"{name}.log".replace(" ", "-")
    settings = {
        "PYTHONPATH": servers.import_path(checkout),
        # MLflow looks for uvicorn on the path.
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "BENTOML_HOME": str(directory / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "BUCKLER_BENCH_MODEL": str(directory / "release" / verdict.MODEL_DIR),
        "BUCKLER_RELEASE": str(directory / "release"),
        "BUCKLER_VERDICT_KEY": str(directory / keys.PUBLIC_KEY_FILE),
        "BUCKLER_AUDIT_LOG": str(directory / "audit/audit.jsonl"),
        "BUCKLER_TRAFFIC_URL": f"sqlite:///{directory / 'traffic.db'}",
        **LIMITS,
    }
    began = time.perf_counter()
    env = servers.environment(settings)
    with servers.started([*command, str(port)], env=env, log=log, directory=checkout) as process:
        _wait(f"http://127.0.0.1:{port}{ready}", process, name, log)
        yield port, process.pid, time.perf_counter() - began


def _wait(url: str, process: "subprocess.Popen[bytes]", name: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise BucklerError(f"{name} does not answer at {url}:\n{log.read_text(errors='replace')[-2000:]}")


def _draw(results: Sequence[ServerResult], path: Path) -> None:
    from buckler.reporting import plots

    panels: dict[str, dict[str, tuple[float, float, float]]] = {}
    for result in results:
        rate = result.requests_per_second
        panels.setdefault(f"clients: {result.clients}", {})[result.server] = (rate, rate, rate)
    plots.bars(panels, "requests per second over HTTP", path)


def _load(results: Sequence[ServerResult]) -> documents.Table:
    columns = (
        ("server", "server", ""),
        ("clients", "clients", ""),
        ("requests_per_second", "requests/s", ".1f"),
        ("p50_ms", "p50 ms", ",.0f"),
        ("p99_ms", "p99 ms", ",.0f"),
        ("errors", "errors", ""),
        ("refused", "refused", ""),
        ("requests", "requests", ","),
        ("cpu_ms", "processor ms a request", ".0f"),
        ("worker_memory_mib", "worker's memory, MiB", ",.0f"),
        ("ready_seconds", "ready after, s", ".1f"),
    )
    return documents.Table(tuple(documents.Column(*each) for each in columns), tuple(asdict(r) for r in results))


def _targets(targets: Sequence[Mapping[str, Any]]) -> documents.Table:
    titles = {"name": "target (two idle cores with AMX)", "measured": "measured", "reached": "reached"}
    columns = tuple(documents.Column(key, title) for key, title in titles.items())
    return documents.Table(columns, tuple(dict(target) for target in targets))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="", help="class-per-folder directory; default: drawn pictures")
    parser.add_argument("--weights", default="", help="VGG-19 base: imagenet or a file; default: seeded random weights")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each measurement")
    documents.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="tiny network, 0.3 seconds each: shows that it works")
    given = parser.parse_args(arguments)
    if given.quick:
        run(Plan(32, "tiny", pictures=8, clients=(1, 4), seconds=0.3), given.out or documents.SCRATCH)
        return
    plan = Plan(given.size, weights=given.weights or "none", images=given.images, seconds=given.seconds)
    run(plan, given.out or documents.DIRECTORY)


if __name__ == "__main__":
    stage(main)
