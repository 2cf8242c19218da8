"""A scene for the console: a separate registry, signed releases of one project, service, watch and Prometheus."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import yaml

from benchmarks.servers import end, free_port
from buckler.release import bundle
from buckler.release.assess import Assessor
from buckler.release.policy import Policy
from buckler.release.promote import promote as promote_release
from buckler.release.publish import publish as publish_release
from buckler.release.settings import PublishParams
from buckler.release.tracking import WritableRegistry
from buckler.serving import selftest
from buckler.trust.digests import directory_digest
from buckler.trust.keys import PROMOTIONS, VERDICTS
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.public_keys import public_pem
from buckler.trust.verdict import Source
from services.classifier.endpoints import ENDPOINTS
from tests import projects, screenings
from tests.forms import square
from tests.key_files import public_env, signing_env, write_private
from tests.services.running import IMAGE_SIZE, SERVICES, TLS

ROOT = Path(__file__).parents[3]
CHROMIUM = "/usr/bin/chromium"
AWAY = "http://127.0.0.1:9"  # no server listens here


def small_project(root: Path) -> Path:
    """Write models/ and reports/ of a small network with random weights; its reports pass the gate."""
    from buckler.models import checkpoint, export
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY
    from buckler.models.runtime import FILES, Runtime, RuntimeInfo

    projects.make_project(root)
    shutil.rmtree(root / "models")
    network = TINY.build(square(IMAGE_SIZE), 2, head=HeadShape((8,)), seed=7)
    pictures = np.random.default_rng(7).uniform(size=(40, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    classifier, runtime = root / "models/classifier", root / "models/runtime"
    info = checkpoint.ModelInfo(
        projects.LABELS, ("malignant",), square(IMAGE_SIZE), "sha256:data", architecture="tiny", data_source="synthetic"
    )
    checkpoint.save(network, info, classifier)
    export.write(network, pictures, runtime)
    RuntimeInfo(("float32",), "test").save(runtime)
    labels = np.arange(len(pictures)) % 2
    served = Runtime(runtime / FILES["float32"], "float32")
    screenings.fit(served, pictures, labels, min_confidence=0.5).save(root / "models/detector")
    digests = directory_digest(classifier), directory_digest(runtime)
    projects.write_reports(root / "reports", digests[0], 80, 40, runtime=digests[1])
    return root


@dataclass
class Scene:
    """A registry in ``root`` for the model ``name``; ``env`` is the environment of service, watch and console."""

    root: Path
    project: Path
    name: str
    registry: str = ""
    """Database URI of the registry; by default, a file in ``root``."""

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for role, key in {VERDICTS: projects.KEY, PROMOTIONS: projects.PROMOTION_KEY}.items():
            write_private(self.root / role.private_file, key)
            (self.root / role.public_file).write_bytes(public_pem(key.public_key()))
        self.model = WritableRegistry(self.name, projects.KEYS)
        self._count = 0
        self._judged_at = 0.0
        self._self_test: Path | None = None
        self.env = {
            "MLFLOW_TRACKING_URI": self.registry or f"sqlite:///{self.root}/mlflow.db",
            **public_env(self.root),
            **signing_env(self.root, VERDICTS, PROMOTIONS),
            "BUCKLER_MODEL_NAME": self.name,
            "BUCKLER_AUDIT_LOG": str(self.root / "audit/audit.jsonl"),
        }

    def publish(self, policy: Policy = projects.POLICY, **changes: object) -> str:
        """Register the project's model as challenger, judged by ``policy`` with ``changes``; return its number."""
        self._count += 1
        where = self.root / f"releases/{self._count}/release"
        names = ("classifier", "detector", "runtime")
        # A verdict states its time in whole seconds: two verdicts within a second could be identical.
        time.sleep(max(0.0, self._judged_at + 1 - time.time()))
        verdict = bundle.build(
            where,
            **{name: self.project / "models" / name for name in names},
            reports=self.project / "reports",
            policy=replace(policy, **changes),
            name=self.name,
            source=Source(f"{self._count:x}" * 40, False),
            packages=(),
            key=projects.KEY,
            write_self_test=self._write_self_test,
        )
        self._judged_at = time.time()
        published = publish_release(
            OpenedFiles.of(where),
            self.project / "reports",
            names=PublishParams("console", self.name),
            parameters={},
            source=Source("0" * 40, False),
            verdict=verdict,
        )
        return published.version

    def promote(self, number: str) -> None:
        """Promote as `buckler promote` does."""
        promote_release(self.model, number=number)

    def champion(self) -> str:
        """Return the champion's number."""
        champion = Assessor(self.model).champion()
        assert champion is not None
        return champion.version.version

    def _write_self_test(self, model: Path) -> None:
        if self._self_test is None:
            selftest.write(model)
            self._self_test = Path(shutil.copy(model / selftest.FILE, self.root))
        else:
            shutil.copy(self._self_test, model / selftest.FILE)

    @contextmanager
    def service(self) -> Iterator[str]:
        """Run the service on this registry; yield its URL."""
        settings = {
            "BENTOML_HOME": str(self.root / "bentoml"),
            "BUCKLER_RELEASES_DIR": str(self.root / "served"),
            "BUCKLER_FOLLOW_SECONDS": "0.5",
            "BUCKLER_FOLLOW_JITTER_SECONDS": "0",
        }
        with self._running("services.classifier", "/readyz", settings, "--port") as url:
            SERVICES[url] = ENDPOINTS  # its answers are compared with the OpenAPI document
            yield url

    @contextmanager
    def console(self, service: str, **settings: str) -> Iterator[str]:
        """Run the console, isolated from other servers of this machine; yield its URL."""
        elsewhere = dict.fromkeys(("BUCKLER_PROMETHEUS_URL", "BUCKLER_ALERTMANAGER_URL", "BUCKLER_WATCH_URL"), AWAY)
        with self._running(
            "services.console", "/livez", elsewhere | {"BUCKLER_SERVICE_URL": service} | settings
        ) as url:
            yield url

    @contextmanager
    def watch(self, service: str) -> Iterator[str]:
        """Run the watch on ``service``, with params.yaml in ``root``; yield the URL of its metrics."""
        port = yaml.safe_load((self.root / "params.yaml").read_text())["watch"]["port"]
        command = [sys.executable, "-m", "buckler.cli", "watch"]
        environment = self._environment({"BUCKLER_WATCH_SERVICE_URL": service})
        with self._server(command, environment, f"http://127.0.0.1:{port}", "/metrics") as url:
            yield url

    @contextmanager
    def prometheus(self, service: str, watch: str = AWAY) -> Iterator[str]:
        """Run Prometheus with the project's rules on ``service`` and ``watch``; yield its URL."""
        shutil.copytree(ROOT / "monitoring/prometheus", self.root / "prometheus", dirs_exist_ok=True)
        config = yaml.safe_load((self.root / "prometheus/prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (self.root / "prometheus/prometheus.yml").write_text(yaml.safe_dump(config))
        for name, target in (("service", service), ("watch", watch)):
            targets = yaml.safe_dump([{"targets": [target.removeprefix("http://")]}])
            (self.root / f"prometheus/targets/{name}.yml").write_text(targets)
        port = free_port()
        command = ["prometheus", "--config.file=prometheus/prometheus.yml", "--storage.tsdb.path=tsdb"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with self._server(command, {}, f"http://127.0.0.1:{port}", "/-/ready") as url:
            # Rates need two values of a counter.
            wait_for_prometheus(url, 'count_over_time(up{job="buckler-service"}[1m]) >= 2')
            yield url

    @contextmanager
    def _running(self, module: str, health: str, settings: dict[str, str], *port_option: str) -> Iterator[str]:
        port = free_port()
        environment = self._environment({"BUCKLER_CONSOLE_PORT": str(port), **settings})
        command = [sys.executable, "-m", module, *(part for option in port_option for part in (option, str(port)))]
        with self._server(command, environment, f"http://127.0.0.1:{port}", health) as url:
            yield url

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("BUCKLER_", "BENTOML_"))}
        return {**others, **self.env, **settings}

    @contextmanager
    def _server(self, command: list[str], environment: dict[str, str], url: str, health: str) -> Iterator[str]:
        name = command[2] if command[1] == "-m" else command[0]
        log = self.root / f"{name}.{url.rpartition(':')[2]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment or None,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait(url + health, process, log)
            yield url
        finally:
            end(process)


def wait_for_prometheus(url: str, query: str) -> None:
    """Wait until ``query`` has a result in the Prometheus at ``url``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=5, verify=TLS).json()["data"]["result"]:
            return
        time.sleep(0.2)
    raise AssertionError(f"Prometheus at {url} finds nothing for {query}")


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=2, verify=TLS).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{address} does not come up:\n{log.read_text()}")
