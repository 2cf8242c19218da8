"""The registry and the record of runs; the only importer of mlflow.

A version in the registry is a release directory (see `buckler.release`) wrapped as a pyfunc model, so that
MLflow and the service hold the same bytes. The server is ``MLFLOW_TRACKING_URI``; without it a SQLite file of
the project. The service reads the registry through this module, so it imports no evaluation code.
"""

import json
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Before the import, which starts it: what a hospital trains is nobody else's business.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from buckler.errors import RegistryError

CHAMPION = "champion"
CHALLENGER = "challenger"

STATE = Path(".buckler")
DATABASE = STATE / "mlflow.db"
ARTIFACTS = STATE / "mlartifacts"

RELEASE_DIR = "release"  # below the MLflow model's data/
LOADER = "buckler.pyfunc"
REQUIREMENTS = ("cryptography", "keras", "numpy", "openvino", "pillow", "pydantic", "pyyaml")

VERDICT_TAG = "buckler.verdict"
DIGEST_TAG = "buckler.digest"
OUTCOME_TAG = "buckler.outcome"
PROMOTED_TAG = "buckler.promoted_at"
PROMOTION_TAG = "buckler.promotion"
STANDING_TAG = "buckler.trust.standing"
WITHDRAWN_TAG = "buckler.rolled_back_at"
KIND_TAG = "buckler.kind"
NOTE_TAG = "mlflow.note.content"  # MLflow shows it as the run's description

# What these say below that level is about MLflow's own affairs: tables made, pip not found.
_LOG_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.WARNING,
    "mlflow.pyfunc": logging.WARNING,
    "mlflow.utils.environment": logging.ERROR,
}
_CREDENTIALS = re.compile(r"//[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model.

    Attributes:
        version: Its number, as text.
        digest: Of the model bytes.
        verdict: Id of the verdict it was registered with.
        promoted_at: ISO time of its last promotion; empty if it never was champion.
        run_id: Of the run that made it.
        promotion: The signed record of its last promotion or of the last roll-back to it; empty without one.
        standing: What was signed about it since its verdict; empty if nothing was.
    """

    version: str
    digest: str
    verdict: str
    promoted_at: str
    run_id: str
    promotion: str = ""
    standing: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric; ``step`` orders the values of a name: an epoch, or a radius in 1/255."""

    name: str
    value: float
    step: int = 0


# --- the server


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else the project's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"


def shown_uri() -> str:
    """Return the tracking URI without user and password, fit to be printed and stored."""
    return _without_credentials(tracking_uri())


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub("//", text)


def connect() -> MlflowClient:
    """Return a client of the tracking server; the project's own database is made if it is missing."""
    # MLflow would try for minutes before it admits that nobody is there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Bars of a few files tell a person nothing, and fill the log of a service that asks all day.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for chatty, level in _LOG_LEVELS.items():
        logging.getLogger(chatty).setLevel(level)
    uri = tracking_uri()
    if uri == f"sqlite:///{DATABASE}":
        STATE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def asking(what: str) -> Iterator[MlflowClient]:
    """Yield a client; whatever MLflow raises becomes one RegistryError that says ``what`` was asked."""
    try:
        yield connect()
    except (MlflowException, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # MLflow repeats the address as it was given, password included.
        said = _without_credentials(lines[0])
        raise RegistryError(f"{what}: {said} (registry {shown_uri()}; MLFLOW_TRACKING_URI names another)") from error


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # A server knows where its artifacts go; with a bare database MLflow would put them into ./mlruns.
    local = None if tracking_uri().startswith("http") else ARTIFACTS.resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=local))


# --- versions


def versions(model_name: str) -> list[Version]:
    """Return the versions of ``model_name``, oldest first; none if it is not registered.

    Raises:
        RegistryError: The registry cannot be asked.
    """
    with asking(f"listing the versions of {model_name}") as client:
        found: list[ModelVersion] = []
        token: str | None = None
        while token is None or token:
            page = client.search_model_versions(f"name = '{model_name}'", max_results=200, page_token=token)
            found, token = [*found, *page], page.token or ""
        return [_version(entry) for entry in sorted(found, key=lambda entry: int(entry.version))]


def version(model_name: str, number: str) -> Version:
    """Return one version.

    Raises:
        RegistryError: There is none of that number, or the registry cannot be asked.
    """
    with asking(f"looking for version {number} of {model_name}") as client:
        return _version(client.get_model_version(model_name, number))


def by_alias(model_name: str, alias: str) -> Version | None:
    """Return the version that bears ``alias``; None if there is no such model or alias.

    Raises:
        RegistryError: The registry cannot be asked.
    """
    with asking(f"looking for the {alias} of {model_name}") as client:
        try:
            return _version(client.get_model_version_by_alias(model_name, alias))
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise


def _version(entry: ModelVersion) -> Version:
    tags = entry.tags
    return Version(
        version=str(entry.version),
        digest=tags.get(DIGEST_TAG, ""),
        verdict=tags.get(VERDICT_TAG, ""),
        promoted_at=tags.get(PROMOTED_TAG, ""),
        run_id=str(entry.run_id),
        promotion=tags.get(PROMOTION_TAG, ""),
        standing=tags.get(STANDING_TAG, ""),
    )


def set_alias(model_name: str, alias: str, number: str) -> None:
    """Point ``alias`` to version ``number``, in one step."""
    with asking(f"making version {number} of {model_name} {alias}") as client:
        client.set_registered_model_alias(model_name, alias, number)


def tag_version(model_name: str, number: str, tag: str, value: str) -> None:
    """Set ``tag`` of version ``number``."""
    with asking(f"tagging version {number} of {model_name}") as client:
        client.set_model_version_tag(model_name, number, tag, value)


def download(model_name: str, number: str, destination: Path) -> Path:
    """Fetch the release of version ``number`` as the directory ``destination``, which must not exist yet.

    It appears whole or not at all. Nothing is verified here: see `signing.verify_release`.

    Raises:
        RegistryError: It cannot be had.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with (
        asking(f"downloading version {number} of {model_name}") as client,
        tempfile.TemporaryDirectory(prefix=".download-", dir=destination.parent) as scratch,
    ):
        uri = client.get_model_version_download_uri(model_name, number)
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{uri.rstrip('/')}/data/{RELEASE_DIR}", dst_path=scratch
        )
        Path(fetched).rename(destination)
    return destination


def champion_release(model_name: str, destination: Path) -> tuple[Path, str]:
    """Fetch the champion's release as the directory ``destination``; return that and the version's number.

    Raises:
        RegistryError: There is no champion, or it cannot be had.
    """
    champion = by_alias(model_name, CHAMPION)
    if champion is None:
        raise RegistryError(
            f"{model_name} has no champion in {shown_uri()}; "
            "`dvc repro` publishes a challenger, `buckler promote` makes it champion"
        )
    return download(model_name, champion.version, destination), champion.version


# --- runs


def start_run(experiment: str, name: str, tags: Mapping[str, str], *, parent: str | None = None) -> str:
    """Return the id of a new run; `finish_run` ends it.

    Raises:
        RegistryError: The server cannot be asked.
    """
    nesting = {"mlflow.parentRunId": parent} if parent else {}
    with asking(f"starting run {name}") as client:
        run = client.create_run(_experiment(client, experiment), run_name=name, tags={**tags, **nesting})
        return str(run.info.run_id)


def finish_run(run_id: str) -> None:
    """Mark a run as complete."""
    with asking(f"finishing run {run_id}") as client:
        client.set_terminated(run_id, "FINISHED")


def delete_runs(experiment: str, tag: str, value: str) -> None:
    """Delete the runs of ``experiment`` whose ``tag`` is ``value``."""
    with asking(f"cleaning up experiment {experiment}") as client:
        for run in client.search_runs([_experiment(client, experiment)], f"tags.`{tag}` = '{value}'"):
            client.delete_run(run.info.run_id)


def log(run_id: str, *, params: Mapping[str, object] | None = None, metrics: Iterable[Point] = ()) -> None:
    """Add parameters and metric values to a run."""
    now = int(time.time() * 1000)
    values = [Metric(point.name, float(point.value), now, point.step) for point in metrics]
    texts = [Param(name, _text(value)) for name, value in (params or {}).items()]
    with asking(f"logging to run {run_id}") as client:
        # A server takes at most 1000 values and 100 parameters a call.
        for start in range(0, len(values), 1000):
            client.log_batch(run_id, metrics=values[start : start + 1000])
        for start in range(0, len(texts), 100):
            client.log_batch(run_id, params=texts[start : start + 100])


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def attach(run_id: str, folder: str, files: Iterable[Path]) -> None:
    """Store ``files`` as artifacts in ``folder`` of a run."""
    with asking(f"storing artifacts of run {run_id}") as client:
        for file in files:
            client.log_artifact(run_id, str(file), folder)


def log_release(run_id: str, release: Path, *, labels: Sequence[str], image_size: int) -> str:
    """Store a release as the run's model and return the model's URI.

    Args:
        run_id: A run that has not finished.
        release: A directory whose name is ``release``.
        labels: Class names in the order of the probabilities.
        image_size: Pixels a side.
    """
    if release.name != RELEASE_DIR:
        raise ValueError(f"expected a directory named {RELEASE_DIR!r}, got {release}")
    with (
        asking(f"storing the model of run {run_id}") as client,
        tempfile.TemporaryDirectory() as scratch,
    ):
        experiment = client.get_run(run_id).info.experiment_id
        model = client.create_logged_model(experiment, name="model", source_run_id=run_id)
        # `mlflow.pyfunc.log_model` would do the rest too, but load the network to try it on the example.
        _write_pyfunc(Path(scratch) / "model", release, model.model_id, run_id, labels, image_size)
        client.log_model_artifacts(model.model_id, f"{scratch}/model")
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_uri)


def _write_pyfunc(
    path: Path, release: Path, model_id: str, run_id: str, labels: Sequence[str], image_size: int
) -> None:
    import numpy as np  # this needs mlflow in full, which readers of the registry need not have

    with warnings.catch_warnings():  # it warns about its own type hints
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType")
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    number = np.dtype(np.float32)
    mlflow.pyfunc.save_model(
        path=str(path),
        loader_module=LOADER,
        data_path=str(release),
        mlflow_model=Model(
            run_id=run_id,
            model_id=model_id,
            metadata={"labels": list(labels), "pixels": "float32 RGB in 0..1"},
        ),
        signature=ModelSignature(
            Schema([TensorSpec(number, (-1, image_size, image_size, 3))]),
            Schema([TensorSpec(number, (-1, len(labels)))]),
        ),
        input_example=np.full((1, image_size, image_size, 3), 0.5, np.float32),
        pip_requirements=requirements(),
    )


def requirements() -> list[str]:
    """Return what a released model needs to be loaded, at the versions installed here."""
    found = {name: _installed(name) for name in (*REQUIREMENTS, "tensorflow-cpu", "tensorflow")}
    return [f"{name}=={version}" for name, version in found.items() if version]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def register(model_name: str, model_uri: str, *, tags: Mapping[str, str], description: str) -> str:
    """Register a stored model as a new version of ``model_name`` and return the version's number."""
    with asking(f"registering {model_name}") as client:
        number = str(mlflow.register_model(model_uri, model_name, tags=dict(tags)).version)
        client.update_model_version(model_name, number, description=description)
        return number
