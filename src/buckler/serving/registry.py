"""Reads the model registry: versions, aliases and the releases behind them.

A version in the registry is a release directory (see `buckler.release.bundle`) wrapped as a pyfunc model, so that
MLflow and the service use the same bytes. The server is ``MLFLOW_TRACKING_URI``; without it a SQLite file of the
project. `buckler.release.tracking` writes to the registry.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Before the import, which starts the telemetry: MLflow must not send usage data out of a hospital.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from buckler.errors import RegistryError
from buckler.serving.aliases import CHAMPION
from buckler.state import paths

RELEASE_DIR = "release"  # below the MLflow model's data/

VERDICT_TAG = "buckler.verdict"
DIGEST_TAG = "buckler.digest"
OUTCOME_TAG = "buckler.outcome"
PROMOTED_TAG = "buckler.promoted_at"
PROMOTION_TAG = "buckler.promotion"
STANDING_TAG = "buckler.standing"
WITHDRAWN_TAG = "buckler.rolled_back_at"

# Messages below these levels are about MLflow's internals: tables created, pip not found.
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
        version: Number, as text.
        digest: Digest of the model bytes.
        verdict: Id of the verdict it was registered with.
        promoted_at: ISO time of its last promotion; empty if it was never champion.
        run_id: Id of the run that made it.
        promotion: Signed record of the last promotion or roll-back to it; empty without one.
        standing: Latest signed standing; empty without one.
    """

    version: str
    digest: str
    verdict: str
    promoted_at: str
    run_id: str
    promotion: str = ""
    standing: str = ""


# --- the server


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else the project's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.MLFLOW_DATABASE}"


def shown_uri() -> str:
    """Return the tracking URI without user and password, safe to print and store."""
    return _without_credentials(tracking_uri())


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub("//", text)


def connect() -> MlflowClient:
    """Return a client of the tracking server; the project's own database is created if missing."""
    # By default MLflow retries for minutes before it reports an unreachable server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Progress bars would fill the log of a service that polls the registry.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for chatty, level in _LOG_LEVELS.items():
        logging.getLogger(chatty).setLevel(level)
    uri = tracking_uri()
    if uri == f"sqlite:///{paths.MLFLOW_DATABASE}":
        paths.STATE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def calling(action: str) -> Iterator[MlflowClient]:
    """Yield a client; errors of MLflow become a RegistryError that names the ``action``."""
    try:
        yield connect()
    except (MlflowException, OSError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # MLflow repeats the address, password included.
        reason = _without_credentials(lines[0])
        where = f"registry {shown_uri()}; MLFLOW_TRACKING_URI names another"
        raise RegistryError(f"{action}: {reason} ({where})") from error


# --- versions


def versions(model_name: str) -> list[Version]:
    """Return the versions of ``model_name``, oldest first; none if it is not registered.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    with calling(f"listing the versions of {model_name}") as client:
        found: list[ModelVersion] = []
        token: str | None = None
        while token is None or token:
            page = client.search_model_versions(f"name = '{model_name}'", max_results=200, page_token=token)
            found, token = [*found, *page], page.token or ""
        return [_version(entry) for entry in sorted(found, key=lambda entry: int(entry.version))]


def version(model_name: str, number: str) -> Version:
    """Return one version.

    Raises:
        RegistryError: There is no such version, or the registry cannot be reached.
    """
    with calling(f"looking for version {number} of {model_name}") as client:
        return _version(client.get_model_version(model_name, number))


def by_alias(model_name: str, alias: str) -> Version | None:
    """Return the version with ``alias``; None if there is no such model or alias.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    with calling(f"looking for the {alias} of {model_name}") as client:
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


def download(model_name: str, number: str, destination: Path) -> Path:
    """Download the release of version ``number`` to the directory ``destination``, which must not exist.

    The directory appears whole or not at all. Nothing is verified here; see `buckler.trust.verdict.verify_release`.

    Raises:
        RegistryError: The download failed.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with (
        calling(f"downloading version {number} of {model_name}") as client,
        tempfile.TemporaryDirectory(prefix=".download-", dir=destination.parent) as scratch,
    ):
        uri = client.get_model_version_download_uri(model_name, number)
        fetched = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{uri.rstrip('/')}/data/{RELEASE_DIR}", dst_path=scratch
        )
        Path(fetched).rename(destination)
    return destination


@contextmanager
def downloaded(model_name: str, number: str) -> Iterator[Path]:
    """Yield the release of version ``number`` in a temporary directory; nothing in it is verified.

    Raises:
        RegistryError: The download failed.
    """
    with tempfile.TemporaryDirectory(prefix="buckler-") as scratch:
        yield download(model_name, number, Path(scratch) / f"{model_name}-{number}")


def champion_release(model_name: str, destination: Path) -> tuple[Path, str]:
    """Download the champion's release to ``destination``; return the directory and the version's number.

    Raises:
        RegistryError: There is no champion, or the download failed.
    """
    champion = by_alias(model_name, CHAMPION)
    if champion is None:
        raise RegistryError(
            f"{model_name} has no champion in {shown_uri()}; "
            "`dvc repro` publishes a challenger, `buckler promote` makes it champion"
        )
    return download(model_name, champion.version, destination), champion.version
