"""Reads the model registry: versions, aliases and the releases behind them.

A version in the registry is a release directory (see `buckler.release.bundle`) wrapped as a pyfunc model, so that
MLflow and the service use the same bytes. The server is ``MLFLOW_TRACKING_URI``; without it a SQLite file of the
project. `buckler.release.tracking` writes to the registry. MLflow takes seconds to load and is imported when it is
first needed.
"""

import base64
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from buckler.errors import DownloadError, RegistryError
from buckler.serving import bounded_client
from buckler.serving.aliases import CHAMPION
from buckler.serving.artifact_sources import allowed_source
from buckler.serving.bounded_client import BoundedClient
from buckler.serving.downloads import Access, DownloadSettings, download
from buckler.serving.fetching import AWS_SIGNATURE
from buckler.serving.version import Version
from buckler.state import paths, proxies
from buckler.trust.keys import Keys

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Importing MLflow starts its telemetry, which must not send usage data out of a hospital.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

RELEASE_DIR = "release"  # below the MLflow model's data/

VERDICT_TAG = "buckler.verdict"
DIGEST_TAG = "buckler.digest"
OUTCOME_TAG = "buckler.outcome"
PROMOTION_TAG = "buckler.promotion"  # of a version: its last promotion; of the model: the last one of any version
STANDING_TAG = "buckler.standing"
APPROVAL_TAG = "buckler.approval."  # and a name: of a version, one for each person: nobody replaces another's
HEAD_TAG = "buckler.head"  # of the model: the last signed record of any kind

REGISTRY_ENV = "BUCKLER_REGISTRY_ID"
LOCAL = "local"

# Messages below these levels are about MLflow's internals: tables created, pip not found.
_LOG_LEVELS = {
    "alembic": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,  # a traceback for a locked file, which `calling` reports in a line
    "mlflow.pyfunc": logging.WARNING,
    "mlflow.utils.environment": logging.ERROR,
}
_NOT_FOUND = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_CREDENTIALS = re.compile(r"//[^/\s]*@")


# --- the server


def tracking_uri() -> str:
    """Return ``MLFLOW_TRACKING_URI``, else the project's own SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.MLFLOW_DATABASE}"


def shown_uri() -> str:
    """Return the tracking URI without user and password, safe to print and store."""
    return _without_credentials(tracking_uri())


def registry_id() -> str:
    """Return the id of the registry for which records are signed: ``BUCKLER_REGISTRY_ID``, else from the tracking URI.

    It is never read from the registry itself, which could copy that of another one.
    """
    if named := os.environ.get(REGISTRY_ENV):
        return named
    scheme, _, place = shown_uri().rpartition("://")
    return place.rstrip("/") if scheme not in ("", "file", "sqlite") else LOCAL


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub("//", text)


def connect() -> "MlflowClient":
    """Return a client of the tracking server; the project's own database is created if missing."""
    import mlflow

    bounded_client.set_defaults()
    # Progress bars would fill the log of a service that polls the registry.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for chatty, level in _LOG_LEVELS.items():
        logging.getLogger(chatty).setLevel(level)
    uri = tracking_uri()
    if uri == f"sqlite:///{paths.MLFLOW_DATABASE}":
        paths.STATE.mkdir(exist_ok=True)
    mlflow.set_tracking_uri(uri)
    client: Any = mlflow.MlflowClient(tracking_uri=uri)
    return cast("MlflowClient", BoundedClient(client) if urlsplit(uri).scheme in ("http", "https") else client)


def _resolved(uri: str, client: "MlflowClient") -> str:
    """Return where the artifacts of a logged model or run are; other addresses as they are.

    Not by MLflow's own resolution, which opens whatever it finds at once.

    Raises:
        DownloadError: There is no such model or run.
    """
    from mlflow.exceptions import MlflowException

    scheme, _, rest = uri.partition(":/")
    try:
        if scheme == "models" and "/" not in rest:
            return str(client.get_logged_model(rest).artifact_location)
        if scheme == "runs":
            run_id, _, path = rest.partition("/")
            return f"{str(client.get_run(run_id).info.artifact_uri).rstrip('/')}/{path}"
    except MlflowException as error:
        if error.error_code in _NOT_FOUND:
            raise DownloadError("source", f"its source {uri[:200]!a} does not exist in the registry") from error
        raise
    return uri


def _access() -> Access:
    """Return how the tracking server is asked, from MLflow's own settings."""
    from mlflow.tracking.request_header.registry import resolve_request_headers
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.workspace_context import get_request_workspace
    from mlflow.utils.workspace_utils import WORKSPACE_HEADER_NAME

    server, known = urlsplit(tracking_uri()), get_default_host_creds(tracking_uri())  # type: ignore[no-untyped-call]
    user, password = known.username, known.password
    if server.username:  # it takes precedence, as in MLflow
        user, password = unquote(server.username), unquote(server.password or "")
    headers = dict(resolve_request_headers())  # type: ignore[no-untyped-call]
    if workspace := get_request_workspace():
        headers[WORKSPACE_HEADER_NAME] = workspace
    if user and password:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    elif known.token:
        headers["Authorization"] = f"Bearer {known.token}"
    plugin = AWS_SIGNATURE if known.aws_sigv4 else known.auth or ""
    return Access(headers, known.verify, known.client_cert_path, plugin)


@contextmanager
def calling(action: str) -> Iterator["MlflowClient"]:
    """Yield a client; errors of MLflow become a RegistryError that names the ``action``."""
    from mlflow.exceptions import MlflowException

    from buckler.state import database  # loads SQLAlchemy, as MLflow does

    try:
        yield connect()
    except (MlflowException, OSError, database.DriverError) as error:
        # MLflow repeats the address, password included.
        reason = _without_credentials(database.reason_of(error))
        way = proxies.through(tracking_uri())
        advice = database.advice_if_busy(reason) or "MLFLOW_TRACKING_URI names another"
        raise RegistryError(f"{action}: {reason} (registry {shown_uri()}{way}; {advice})") from error


# --- a registered model


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry's entries of one model, and the keys for what is signed about them.

    Attributes:
        model: Name in the registry.
        keys: Keys of verdicts, standings and promotions; default: the project's.
        id: Id of the registry in every signed record; default: the configured one.
    """

    model: str
    keys: Keys = field(default_factory=Keys)
    id: str = field(default_factory=registry_id)

    def versions(self) -> list[Version]:
        """Return the versions, oldest first; none if the model is not registered.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        with calling(f"listing the versions of {self.model}") as client:
            found: list[ModelVersion] = []
            token: str | None = None
            while token is None or token:
                page = client.search_model_versions(f"name = '{self.model}'", max_results=200, page_token=token)
                found, token = [*found, *page], page.token or ""
            tags = client.get_registered_model(self.model).tags if found else {}
            return [self._version(entry, tags) for entry in sorted(found, key=lambda entry: int(entry.version))]

    def version(self, number: str) -> Version:
        """Return one version.

        Raises:
            RegistryError: There is no such version, or the registry cannot be reached.
        """
        with calling(f"looking for version {number} of {self.model}") as client:
            tags = client.get_registered_model(self.model).tags
            return self._version(client.get_model_version(self.model, number), tags)

    def by_alias(self, alias: str) -> Version | None:
        """Return the version with ``alias``; None if there is no such model or alias.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        with calling(f"looking for the {alias} of {self.model}") as client:
            from mlflow.exceptions import MlflowException

            try:
                tags = client.get_registered_model(self.model).tags
                return self._version(client.get_model_version_by_alias(self.model, alias), tags)
            except MlflowException as error:
                if error.error_code in _NOT_FOUND:
                    return None
                raise

    def named(self, alias: str) -> Version:
        """Return the version with ``alias``.

        Raises:
            RegistryError: There is none, or the registry cannot be reached.
        """
        found = self.by_alias(alias)
        if found is None:
            raise RegistryError(
                f"{self.model} has no {alias} in {shown_uri()}; `dvc repro` publishes a challenger, `buckler promote`"
                " makes it champion"
            )
        return found

    def champion(self) -> Version:
        """Return the champion.

        Raises:
            RegistryError: There is none, or the registry cannot be reached.
        """
        return self.named(CHAMPION)

    def download(self, number: str, destination: Path) -> Path:
        """Download the release of version ``number`` to the directory ``destination``, which must not exist.

        The directory appears whole or not at all. Nothing is verified here; see `buckler.serving.release_cache`. It may
        take minutes: hold no lock meanwhile.

        Raises:
            DownloadError: The registry answers, but the source of the version is not allowed or does not provide it.
            RegistryError: There is no such version, or the registry cannot be reached.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        limits = DownloadSettings.from_env()
        with (
            calling(f"downloading version {number} of {self.model}") as client,
            tempfile.TemporaryDirectory(prefix=".download-", dir=destination.parent) as scratch,
        ):
            uri = _resolved(client.get_model_version_download_uri(self.model, number), client)
            source = (
                allowed_source(uri, tracking_uri(), (limits.artifact_sources or "").split()) / f"data/{RELEASE_DIR}"
            )
            download(source, Path(scratch), _access(), limits).rename(destination)
        return destination

    def _version(self, entry: "ModelVersion", of_model: Mapping[str, str]) -> Version:
        tags = entry.tags
        return Version(
            model=str(entry.name),
            version=str(entry.version),
            digest=tags.get(DIGEST_TAG, ""),
            verdict=tags.get(VERDICT_TAG, ""),
            promotion=tags.get(PROMOTION_TAG, ""),
            standing=tags.get(STANDING_TAG, ""),
            latest=of_model.get(PROMOTION_TAG, ""),
            head=of_model.get(HEAD_TAG, ""),
            registry=self.id,
            run_id=str(entry.run_id),
            approvals={
                tag.removeprefix(APPROVAL_TAG): text for tag, text in tags.items() if tag.startswith(APPROVAL_TAG)
            },
        )
