"""What drills on trust run on: an MLflow server, the signer's commands and a service that answers all the while."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import load, servers
from benchmarks.load import Load
from buckler.modality.picture import images, synthetic
from buckler.serving import registry as reading
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import ReasonCode
from drills.registry import NAME, DrillError
from drills.report import Attack, Drill
from drills.scene import DrillScene
from drills.service import PICTURE_SIZE, RunningService, wait_until
from drills.trust.commands import Commands, Done, commands

PATIENCE = 120.0
START_SECONDS = 120
REGISTRY = "production"
PICTURES = tuple(
    images.to_png(synthetic.draw(label, index, seed=3, size=PICTURE_SIZE))
    for label in ("benign", "malignant")
    for index in range(2)
)
PAUSE_SECONDS = 0.1  # the drill measures refusals, not throughput; the commands need the processors


class Stage:
    """A registry behind an MLflow server, with its attackers' and its signer's access.

    Attributes:
        scene: Makes releases and the service.
        drill: Gets the results.
        database: File of the MLflow server.
        artifacts: Directory of the MLflow server.
        url: Address of the MLflow server.
    """

    def __init__(self, scene: DrillScene, drill: Drill, url: str, signer: Commands) -> None:
        self.scene, self.drill, self.url, self._commands = scene, drill, url, signer
        self.database, self.artifacts = scene.registry.root / "mlflow.db", scene.registry.root / "artifacts"

    # --- the signer

    def buckler(self, *arguments: str, **env: str) -> Done:
        """Run a command of Buckler on the signer's machine and return its result."""
        return self._commands.run(arguments, {**self.scene.registry.env, **env})

    def signs(self, *arguments: str, **env: str) -> str:
        """Run a command that must succeed and return its output.

        Raises:
            DrillError: It failed.
        """
        done = self.buckler(*arguments, **env)
        if done.code:
            raise DrillError(f"`buckler {' '.join(arguments)}` ended with {done.code}: {done.errors.strip()}")
        return done.output

    def champion(self) -> str:
        """Publish a release, promote it with the command and return its version."""
        version = self.scene.publish()
        self.signs("promote", "--version", version)
        return version

    def signer_refuses(self, attack: str, *arguments: str, says: str) -> None:
        """Require that a command of the signer fails and says why."""
        self._refused("signer", attack, arguments, says)

    def client_refuses(self, attack: str, *arguments: str, says: str) -> None:
        """Require that a command of a client rejects what it got and says why."""
        self._refused("client", attack, arguments, says)

    def client_accepts(self, attack: str, *arguments: str) -> None:
        """Record whether a command of a client accepts what it got, as the threat model states."""
        done = self.buckler(*arguments)
        refused = done.errors.strip()
        self.record(attack, "client" if refused else "", refused or "accepted")

    def _refused(self, by: str, attack: str, arguments: Sequence[str], says: str) -> None:
        began = time.monotonic()
        done = self.buckler(*arguments)
        self.expect(
            attack,
            by,
            says,
            done.code != 0 and says in done.errors,
            f"expected `buckler {' '.join(arguments)}` to fail with {says!r}, got {done.code}:"
            f" {(done.errors or done.output).strip()}",
            time.monotonic() - began,
        )

    # --- the service

    def service_refuses(
        self, service: RunningService, attack: str, do: Callable[[], object], *codes: str, within: float = PATIENCE
    ) -> None:
        """Require that the service refuses a release for exactly these reasons once the attack is done."""
        before, began = refusals(service), time.monotonic()
        do()
        try:
            wait_until(lambda: refusals(service) != before, within, f"a refusal after: {attack}")
        except DrillError:
            found: list[str] = []
        else:
            found = sorted(code for code, count in refusals(service).items() if count > before[code])
        self.expect(
            attack,
            "service",
            ", ".join(found),
            found == sorted(codes),
            f"expected a refusal for {sorted(codes)}, got {found}",
            time.monotonic() - began,
        )

    # --- results

    def record(self, attack: str, by: str, code: str, seconds: float | None = None) -> None:
        """Add an attack to the results; nobody stopped it if ``by`` is empty."""
        self.drill.attacks.append(Attack(attack, by, code, None if seconds is None else round(seconds, 1)))

    def expect(self, attack: str, by: str, code: str, holds: bool, failure: str, seconds: float | None = None) -> None:
        """Add an attack to the results, and require that it was stopped."""
        self.record(attack, by if holds else "", code if holds else "see failures", seconds)
        self.drill.require(holds, f"{attack}: {failure}")


def refusals(service: RunningService) -> dict[str, float]:
    """Return how often the service refused a release, by reason."""
    reasons = (*ReasonCode, "unavailable")
    return {reason: service.metric("buckler_model_refused_total", reason=reason) for reason in reasons}


@contextmanager
def stage(scene: DrillScene, drill: Drill) -> Iterator[Stage]:
    """Run an MLflow server on the drill's registry, with its artifacts, until the context ends."""
    registry = scene.registry
    with mlflow_server(registry.root / "mlflow.db", registry.root / "artifacts") as url:
        registry.env |= {"MLFLOW_TRACKING_URI": url, reading.REGISTRY_ENV: REGISTRY}
        os.environ.update({**registry.env, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"})
        registry.model = replace(registry.model, id=REGISTRY)
        with commands(registry.root) as signer:
            yield Stage(scene, drill, url, signer)


@contextmanager
def mlflow_server(database: Path, artifacts: Path) -> Iterator[str]:
    """Run an MLflow server, as `make up` does, until the context ends; give its address."""
    port, log = servers.free_port(), database.with_suffix(".log")
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(Path(sys.executable).parent / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1"),
        *("--port", str(port), "--backend-store-uri", f"sqlite:///{database}"),
        *("--artifacts-destination", str(artifacts)),
    ]
    env = {name: value for name, value in servers.environment({}).items() if not name.startswith("MLFLOW_TRACKING")}
    with servers.started(command, env=env, log=log, directory=database.parent) as process:
        wait_until(lambda: _healthy(url) or process.poll() is not None, START_SECONDS, "the MLflow server to start")
        if process.poll() is not None:
            raise DrillError(f"the MLflow server does not start:\n{log.read_text(encoding='utf-8')}")
        yield url


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


# --- clients


class Observer:
    """A client that sends the same pictures in turn, and compares every answer with the first one to its picture."""

    def __init__(self, requests: Load) -> None:
        self._load = requests

    @property
    def count(self) -> int:
        """Requests that were answered or lost."""
        return len(self._load.requests)

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return self._load.failed()

    @property
    def statuses(self) -> dict[str, int]:
        """Number of requests for each status."""
        return self._load.statuses()

    @property
    def versions(self) -> list[str]:
        """Versions that answered."""
        return sorted({each.version for each in self._load.requests if each.version})

    def last_version(self) -> str:
        """Version of the last answer."""
        return next((each.version for each in reversed(self._load.requests) if each.version), "")

    def versions_since(self, count: int) -> list[str]:
        """Versions that answered after the first ``count`` requests."""
        return sorted({each.version for each in self._load.requests[count:] if each.version})

    def without(self, reason: str, since: int) -> int:
        """Number of answers after the first ``since`` requests that do not give ``reason``."""
        good = [each for each in self._load.requests[since:] if each.status == "200"]
        return sum(reason not in json.loads(each.body)["reasons"] for each in good)

    def wrong(self) -> int:
        """Number of answers that differ from the first one to the same picture."""
        first: dict[int, Any] = {}
        wrong = 0
        for number, each in enumerate(self._load.requests):
            if each.status == "200":
                found = json.loads(each.body)["probabilities"]
                wrong += first.setdefault(number % len(PICTURES), found) != found
        return wrong

    def wait(self, more: int) -> None:
        """Wait for so many more requests."""
        wanted = self.count + more
        wait_until(lambda: self.count >= wanted, PATIENCE, f"{more} more answers")

    def wait_for(self, version: str) -> None:
        """Wait for an answer of a version."""
        wait_until(lambda: self.last_version() == version, PATIENCE, f"an answer of version {version}")


@contextmanager
def observing(service: RunningService) -> Iterator[Observer]:
    """Send pictures until the context ends; it begins with the first answers."""
    requests = [load.post("/predict", *load.form(picture, "image/png"), keep_open=False) for picture in PICTURES]
    with load.closed_loop(service.port, requests, clients=1, keep_open=False, pause=PAUSE_SECONDS) as found:
        observer = Observer(found)
        observer.wait(len(PICTURES))
        checked = "buckler_release_check_timestamp_seconds"
        wait_until(lambda: service.metric(checked) > 0, PATIENCE, "the first check for a release")
        yield observer


def answered(drill: Drill, observer: Observer, versions: Sequence[str], lost: int = 0) -> None:
    """Report what the service answered during the attacks, and require that it was right throughout.

    Args:
        drill: Gets the results.
        observer: Has ended.
        versions: Those that may answer.
        lost: Requests that may be lost because a worker was killed.
    """
    drill.figures |= {"requests": observer.count, "failed": observer.failed, "wrong answers": observer.wrong()}
    drill.figures["versions that answered"] = ", ".join(observer.versions)
    drill.require(observer.failed <= lost, f"{observer.failed} requests failed: {observer.statuses}")
    drill.require(observer.wrong() == 0, f"{observer.wrong()} answers differ from the first one to the same picture")
    allowed = sorted(set(versions))
    drill.require(observer.versions == allowed, f"expected answers of {allowed}, got {observer.versions}")


# --- whoever writes the registry


def client() -> Any:
    """Return MLflow's client of the registry: its writers need no key of ours."""
    return reading.connect()


def set_alias(version: str) -> None:
    """Move the champion's alias by hand."""
    client().set_registered_model_alias(NAME, CHAMPION, version)


def tags_of(version: str) -> dict[str, str]:
    """Return the tags of a version."""
    return dict(client().get_model_version(NAME, version).tags)


def model_tags() -> dict[str, str]:
    """Return the tags of the model."""
    return dict(client().get_registered_model(NAME).tags)
