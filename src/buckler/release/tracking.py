"""Writes runs, models, versions and aliases to MLflow; `buckler.serving.registry` reads them."""

import hashlib
import json
import socket
import tempfile
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

# Before MLflow: importing it turns MLflow's telemetry off.
from buckler.serving.registry import RELEASE_DIR, Registry, calling, tracking_uri  # isort: split

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param

from buckler.errors import RegistryError
from buckler.serving.artifact_sources import local_directories
from buckler.state import exits, locks, paths

REQUIREMENTS = ("cryptography", "keras", "numpy", "openvino", "pillow", "pydantic", "pyyaml")
LOCK_SECONDS = 120.0  # several calls of a slow registry
KIND_TAG = "buckler.kind"
ORIGIN_TAG = "buckler.origin"
DAY_SECONDS = 86400
NOTE_TAG = "mlflow.note.content"  # MLflow shows it as the run's description


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric; ``step`` orders the values of a name: an epoch, or a radius in steps of the grid."""

    name: str
    value: float
    step: int = 0


@contextmanager
def one_writer() -> Iterator[None]:
    """Hold the lock on aliases and standings: one process of this machine changes them at a time.

    The kernel releases the lock when the process ends, even by a crash.

    Raises:
        RegistryError: The lock file cannot be opened, or another process holds it for long.
    """
    with ExitStack() as stack:
        try:
            paths.PROMOTION_LOCK.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.exclusive(paths.PROMOTION_LOCK, seconds=LOCK_SECONDS))
        except locks.HeldError as error:
            raise RegistryError(
                f"{error}: a promotion or claim is being signed; try again when that has ended"
            ) from error
        except OSError as error:
            raise RegistryError(f"the lock of promotions: {exits.explain(error)}") from error
        yield


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server knows where its artifacts go; with a bare database MLflow would put them into ./mlruns.
    local = None if tracking_uri().startswith("http") else local_directories(tracking_uri())[0].as_uri()
    return str(client.create_experiment(name, artifact_location=local))


class WritableRegistry(Registry):
    """The registry's entries of one model, to read and to write."""

    __slots__ = ()

    def signing(self) -> "WritableRegistry":
        """Return the same registry with its keys read once, for a process that signs.

        Raises:
            BucklerError: There is no signing key, or no service would accept what it signs.
        """
        return replace(self, keys=self.keys.bound())

    def register(self, model_uri: str, *, tags: Mapping[str, str], description: str) -> str:
        """Register a stored model as a new version and return the version's number."""
        with calling(f"registering {self.model}") as client:
            number = str(mlflow.register_model(model_uri, self.model, tags=dict(tags)).version)
            client.update_model_version(self.model, number, description=description)
            return number

    def set_alias(self, alias: str, number: str) -> None:
        """Point ``alias`` to version ``number``, in one step."""
        with calling(f"making version {number} of {self.model} {alias}") as client:
            client.set_registered_model_alias(self.model, alias, number)

    def tag(self, number: str, tag: str, value: str) -> None:
        """Set ``tag`` of version ``number``."""
        with calling(f"tagging version {number} of {self.model}") as client:
            client.set_model_version_tag(self.model, number, tag, value)

    def tag_model(self, tag: str, value: str) -> None:
        """Set ``tag`` of the model."""
        with calling(f"tagging {self.model}") as client:
            client.set_registered_model_tag(self.model, tag, value)


# --- runs


def start_run(experiment: str, name: str, tags: Mapping[str, str], *, parent: str | None = None) -> str:
    """Return the id of a new run; `finish_run` ends it.

    Raises:
        RegistryError: The server cannot be reached.
    """
    nesting = {"mlflow.parentRunId": parent} if parent else {}
    with calling(f"starting run {name}") as client:
        named = {**tags, **nesting, ORIGIN_TAG: _origin()}
        run = client.create_run(_experiment(client, experiment), run_name=name, tags=named)
        return str(run.info.run_id)


def _origin() -> str:
    """Return what identifies this project's folder on this machine, without its name or path."""
    return hashlib.sha256(f"{socket.gethostname()}:{Path.cwd()}".encode()).hexdigest()[:16]


def finish_run(run_id: str) -> None:
    """Mark a run as complete."""
    with calling(f"finishing run {run_id}") as client:
        client.set_terminated(run_id, "FINISHED")


def end_unfinished(experiment: str, kinds: Collection[str]) -> None:
    """Mark the runs of some kinds as failed that this project began and never finished, because a process died.

    Call it while no other process of this project records runs of these kinds. A run of an earlier version of Buckler,
    which did not record the project, counts once it is a day old.
    """
    yesterday = int((time.time() - DAY_SECONDS) * 1000)
    with calling(f"cleaning up experiment {experiment}") as client:
        for run in client.search_runs([_experiment(client, experiment)], "attributes.status = 'RUNNING'"):
            tags = run.data.tags
            ours = tags.get(ORIGIN_TAG) == _origin() or (ORIGIN_TAG not in tags and run.info.start_time < yesterday)
            if ours and tags.get(KIND_TAG) in kinds:
                client.set_terminated(run.info.run_id, "FAILED")


def delete_runs(experiment: str, tag: str, value: str) -> None:
    """Delete the runs of ``experiment`` whose ``tag`` is ``value``."""
    with calling(f"cleaning up experiment {experiment}") as client:
        for run in client.search_runs([_experiment(client, experiment)], f"tags.`{tag}` = '{value}'"):
            client.delete_run(run.info.run_id)


def log(run_id: str, *, params: Mapping[str, object] | None = None, metrics: Iterable[Point] = ()) -> None:
    """Add parameters and metric values to a run."""
    now = int(time.time() * 1000)
    values = [Metric(point.name, float(point.value), now, point.step) for point in metrics]
    texts = [Param(name, _text(value)) for name, value in (params or {}).items()]
    with calling(f"logging to run {run_id}") as client:
        # A server accepts at most 1000 values and 100 parameters per call.
        for start in range(0, len(values), 1000):
            client.log_batch(run_id, metrics=values[start : start + 1000])
        for start in range(0, len(texts), 100):
            client.log_batch(run_id, params=texts[start : start + 100])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def attach(run_id: str, folder: str, files: Iterable[Path]) -> None:
    """Store ``files`` as artifacts in ``folder`` of a run."""
    with calling(f"storing artifacts of run {run_id}") as client:
        for file in files:
            client.log_artifact(run_id, str(file), folder)


def log_release(run_id: str, release: Path, *, labels: Sequence[str], shape: tuple[int, ...]) -> str:
    """Store a release as the run's model and return the model's URI.

    Args:
        run_id: A run that has not finished.
        release: A directory whose name is ``release``.
        labels: Class names in the order of the probabilities.
        shape: Of one input.
    """
    if release.name != RELEASE_DIR:
        raise ValueError(f"expected a directory named {RELEASE_DIR!r}, got {release}")
    with (
        calling(f"storing the model of run {run_id}") as client,
        tempfile.TemporaryDirectory() as scratch,
    ):
        experiment = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
        # Not `mlflow.pyfunc.log_model`: it would load the network to run it on the example.
        _write_pyfunc(Path(scratch) / "model", release, model.model_id, run_id, labels, shape)
        client.log_model_artifacts(model.model_id, f"{scratch}/model")
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_uri)


def _write_pyfunc(
    path: Path, release: Path, model_id: str, run_id: str, labels: Sequence[str], shape: tuple[int, ...]
) -> None:
    import numpy as np  # needs the full mlflow package, which readers of the registry do not need

    from buckler.serving import pyfunc

    with warnings.catch_warnings():  # it warns about its own type hints
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    number = np.dtype(np.float32)
    mlflow.pyfunc.save_model(
        path=str(path),
        loader_module=pyfunc.__name__,
        data_path=str(release),
        mlflow_model=Model(
            run_id=run_id,
            model_id=model_id,
            metadata={"labels": list(labels), "pixels": "float32 RGB in 0..1"},
        ),
        signature=ModelSignature(
            Schema([TensorSpec(number, (-1, *shape))]),
            Schema([TensorSpec(number, (-1, len(labels)))]),
        ),
        input_example=np.full((1, *shape), 0.5, np.float32),
        pip_requirements=requirements(),
    )


def requirements() -> list[str]:
    """Return the packages that a released model needs, pinned to the installed versions."""
    found = {name: _installed(name) for name in (*REQUIREMENTS, "tensorflow-cpu", "tensorflow")}
    return [f"{name}=={version}" for name, version in found.items() if version]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
