"""Runs a small real platform: a promoted release and a challenger, the service, the watch, Prometheus.

Everything is started as an operator starts it. The network is ``tiny``, untrained.
"""

import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import yaml

from benchmarks.servers import end, free_port
from buckler import params
from buckler.data import pictures
from buckler.errors import BucklerError
from buckler.modality.picture import images, synthetic
from buckler.models import checkpoint, export
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.models.runtime import FILES, Runtime, RuntimeInfo
from buckler.release.promote import promote as promote_release
from buckler.release.tracking import WritableRegistry
from buckler.serving import api_keys, selftest
from buckler.serving.api_keys import Role
from buckler.serving.traffic_mixing import GROUP
from buckler.state import paths
from buckler.trust import digests
from buckler.trust.keys import (
    PRIVATE_KEY_FILE,
    PROMOTIONS,
    VERDICTS,
    generate_key_pair,
    load_private_key,
)
from drills.scene import FOLLOW
from drills.service import running, wait_until
from tests import projects, screenings
from tests.forms import square
from tests.key_files import keys_in, public_env, signing_env
from tests.monitoring.queries import PROMETHEUS, ROOT
from tests.monitoring.tools import needs

if TYPE_CHECKING:
    from buckler.watch import WatchParams

NAME = "boards"
SIZE, COUNT = 32, 24
SCRAPE_SECONDS = 1


@dataclass(frozen=True)
class RunningPrometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of its API.

        Raises:
            AssertionError: The request failed; the message is Prometheus' own.
        """
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expr: str) -> list[float]:
        """Return the current values of a query, without NaN."""
        data = self.get("query", query=expr)
        found = [data["result"]] if data["resultType"] == "scalar" else [each["value"] for each in data["result"]]
        return [number for _, text in found if not np.isnan(number := float(text))]


@contextmanager
def platform(root: Path) -> Iterator[RunningPrometheus]:
    """Run the platform until the context ends; traffic was sent and the watch's jobs have run when it begins."""
    env = make_project(root)
    keys = make_keys(root)
    with ExitStack() as stack:
        access = {"BUCKLER_API_KEYS": str(root / "keys/api.json"), "BUCKLER_REQUIRE_KEYS": "always"}
        access |= {"BUCKLER_KEY_BURST": "200"}
        service_env = {**env, **FOLLOW, **access, "BUCKLER_SHADOW_SHARE": "1"}
        service = stack.enter_context(running(root / "service", service_env))
        watch_port = free_port()
        write_params(root, watch_port)
        targets = {"service": service.port, "watch": watch_port}
        prometheus = stack.enter_context(run_prometheus(root / "prometheus", targets, root / "keys/scrape.key"))
        client = {**env, "BUCKLER_WATCH_SERVICE_URL": service.url, "BUCKLER_WATCH_KEY": keys["watch"]}
        stack.enter_context(run_watch(root, client, watch_port))
        # Wait for both: Prometheus sees no increase of a counter before its first scrape.
        wait_until(lambda: prometheus.values("sum(up)") == [len(targets)], 60, "Prometheus to reach service and watch")
        send_traffic(service.url, keys["ward"])
        run_jobs(client)
        wait_until(lambda: compared(service.url, keys["ward"], prometheus), 60, "a comparison with the challenger")
        yield prometheus


def make_project(root: Path) -> dict[str, str]:
    """Publish and promote a release, publish another as challenger; return the environment of the processes."""
    projects.write_splits(root, SIZE, COUNT, np.random.default_rng(7))
    network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=7)
    noise = np.random.default_rng(7).uniform(size=(COUNT, SIZE, SIZE, 3)).astype(np.float32)
    version = pictures.version(root / "data/splits")
    info = checkpoint.ModelInfo(projects.LABELS, ("malignant",), square(SIZE), version, architecture="tiny")
    checkpoint.save(network, info, root / "models/classifier")
    runtime = root / "models/runtime"
    runtime.mkdir()
    export.write(network, noise, runtime)
    RuntimeInfo(("float32",), "test").save(runtime)
    judge = Runtime(runtime / FILES["float32"], "float32")
    screening = screenings.fit(judge, noise, np.arange(COUNT) % 2)
    digest, exported = (digests.directory_digest(root / "models" / part) for part in ("classifier", "runtime"))
    projects.write_reports(root / "reports", digest, 80, 40, runtime=exported)
    generate_key_pair(root / paths.KEYS, VERDICTS, PROMOTIONS)
    key = load_private_key(root / paths.KEYS / PRIVATE_KEY_FILE)
    for promote, confidence in ((True, 0.0), (False, 0.9)):  # another challenger than the champion itself
        replace(screening, min_confidence=confidence).save(root / "models/detector")
        parts = {"runtime": runtime, "write_self_test": selftest.write}
        verdict = projects.build(root, policy=projects.LENIENT, name=NAME, key=key, **parts)
        projects.publish(root, verdict, NAME)
        if promote:
            promote_release(WritableRegistry(NAME, keys_in(root / paths.KEYS)))
    return {
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "BUCKLER_MODEL_NAME": NAME,
        "BUCKLER_TRAFFIC_URL": f"sqlite:///{root}/traffic.db",
        **public_env(root / paths.KEYS),
        **signing_env(root / paths.KEYS, PROMOTIONS),
    }


def make_keys(root: Path) -> dict[str, str]:
    """Make the keys of a client and the watch, and a key file for Prometheus."""
    path = root / "keys/api.json"
    path.parent.mkdir()
    ward, watch = (api_keys.create(path, role=Role.PREDICT, name=name)[1] for name in ("ward", "watch"))
    _, operator = api_keys.create(path, role=Role.OPERATE, name="prometheus")
    (root / "keys/scrape.key").write_text(operator)
    return {"ward": ward, "watch": watch}


def write_params(root: Path, port: int) -> None:
    """Write the project's params.yaml with the least work that the jobs allow."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["watch"] |= {"port": port, "records": 16}
    settings["probe"] |= {"records": 4, "square_records": 1, "queries": 20}
    settings["drift"] |= {"min_records": 8}
    for job in settings["watch"]["jobs"].values():
        job["limit_seconds"] = 600  # a run that exceeds its limit ends its process, here the tests
    settings["publish"] |= {"experiment": NAME, "model_name": NAME}
    (root / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@contextmanager
def run_prometheus(directory: Path, targets: Mapping[str, int], key: Path) -> Iterator[RunningPrometheus]:
    """Run Prometheus on the project's files, with other addresses and an interval of one second."""
    program, port = needs("prometheus"), free_port()
    configure(directory, targets, key)
    command = [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], directory, {}, directory / "log"):
        server = RunningPrometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: answers(f"{server.url}/-/ready"), 60, "Prometheus")
        yield server


def configure(directory: Path, targets: Mapping[str, int], key: Path) -> None:
    """Copy Prometheus' files with our ports and short intervals."""
    for part in ("targets", "keys", "rules"):
        (directory / part).mkdir(parents=True)
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    seconds = f"{SCRAPE_SECONDS}s"
    configuration["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), seconds)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            group.pop("interval", None)
        (directory / "rules" / path.name).write_text(yaml.safe_dump(content))
    for name, port in targets.items():
        (directory / f"targets/{name}.yml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{port}"]}]))
    (directory / "targets/alertmanager.yml").write_text("[]")
    (directory / "keys/service.key").write_text(key.read_text())


@contextmanager
def run_watch(root: Path, env: Mapping[str, str], port: int) -> Iterator[None]:
    """Run the watch."""
    with started(buckler("watch"), root, env, root / "watch.log"):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/metrics"), 60, "the watch")
        yield


def run_jobs(env: Mapping[str, str]) -> None:
    """Run each job of the watch once, in this process and in the working directory; it must have a result."""
    from buckler import watch

    cfg = params.load("watch", watch.WatchParams)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        for job in watch.JOBS:
            wait_until(lambda job=job: has_result(job, cfg), 60, f"a result of {job}")


def has_result(job: str, cfg: "WatchParams") -> bool:
    """Run a job and return whether it passed or failed; False while the watch itself runs it."""
    from buckler import watch

    try:
        run = watch.run_once(job, cfg=cfg)
    except BucklerError:
        return False
    assert run.outcome in ("passed", "failed"), run.message
    return True


def send_traffic(url: str, key: str) -> None:
    """Send typical requests: pictures, an opinion, a search by queries, an invalid picture, one without a key."""
    shown = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(GROUP):  # what the service stores together
            assert ask(client, lesion(20 + number), shown) == 200
        answer = client.post("/predict", files={"image": ("a.png", lesion(3))}, headers=shown).json()
        opinion = {"request_id": answer["request_id"], "opinion": "disagree"}
        assert client.post("/feedback", json=opinion, headers=shown).status_code == 200
        searched = np.asarray(images.load_pixels(lesion(7)))
        for step in range(16):
            changed = np.clip(searched + np.random.default_rng(step).choice([-2, 2], searched.shape) / 255, 0, 1)
            assert ask(client, images.to_png(changed.astype(np.float32)), shown) in (200, 429)
        assert ask(client, b"no picture", shown) in (415, 422)
        assert ask(client, lesion(1), {}) == 401


def compared(url: str, key: str, prometheus: RunningPrometheus) -> bool:
    """Send one more picture and return whether the shadow has compared one."""
    with httpx.Client(base_url=url, timeout=60) as client:
        ask(client, lesion(11), {"authorization": f"Bearer {key}"})
    return prometheus.values('sum(buckler_shadow_pictures_total{outcome="compared"})') > [0.0]


def lesion(number: int) -> bytes:
    """Return a synthetic picture as PNG."""
    return images.to_png(synthetic.draw(projects.LABELS[number % 2], number, seed=1, size=96))


def ask(client: httpx.Client, picture: bytes, headers: Mapping[str, str]) -> int:
    """Send a picture and return the status code."""
    return client.post("/predict", files={"image": ("a.png", picture)}, headers=headers).status_code


def buckler(*arguments: str) -> list[str]:
    """Return the command line of `buckler`."""
    return [sys.executable, "-m", "buckler.cli", *arguments]


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return this process' environment without a developer's settings, plus ``env``."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("BUCKLER_", "BENTOML_"))}
    return {**ours, **env}


@contextmanager
def started(command: list[str], cwd: Path, env: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run a process until the context ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(env), stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        end(process)


def answers(url: str) -> bool:
    """Return whether the URL answers."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
