"""Downloads a release in a process of its own, which is killed at its deadline or when it receives too much.

No limit can be enforced within a thread: libraries of storages retry, resolve names and read heads for as long as a
server likes. `buckler.serving.fetching` is the program that runs.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from buckler.errors import DownloadError, RegistryError
from buckler.serving import fetching
from buckler.serving.artifact_sources import Source
from buckler.serving.settings import EnvironmentSettings, SettingUnit

MEBIBYTE = 1024 * 1024
MOST_ENTRIES = 1000  # files and directories; a release may contain 100 files
CHECK_SECONDS = 0.05

_CREDENTIALS = "MLFLOW_TRACKING_"  # address, user, password, token, certificate


class DownloadSettings(EnvironmentSettings):
    """Limits of each download of a release; read by every process that downloads one."""

    artifact_sources: Annotated[str | None, SettingUnit("addresses separated by spaces")] = None
    """Sources that releases may be downloaded from, with all that is below them, for example
    `s3://bucket/prefix https://host/api/2.0/mlflow-artifacts/artifacts`. Without it, only the tracking server's own
    artifact proxy and the directory of a local registry. The server's credentials are sent to no other source."""

    download_seconds: Annotated[float, SettingUnit("seconds")] = Field(default=600.0, gt=0, le=3000)
    """Time for one release. 600 MB in the default time need a line of 8 Mbit/s."""

    download_megabytes: Annotated[int, SettingUnit("MiB")] = Field(default=4096, ge=1)
    """Most that is received of one release."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the tracking server is asked; nobody else gets any of it.

    Attributes:
        headers: Headers of each request, which may contain credentials.
        verify: Whether its certificate is verified, or with which file.
        certificate: File of the client's certificate.
        plugin: Name of MLflow's plugin that signs requests; empty without one.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    certificate: str | None = None
    plugin: str = ""


def download(source: Source, directory: Path, access: Access, settings: DownloadSettings | None = None) -> Path:
    """Download what is below ``source`` and return its new directory in ``directory``.

    Args:
        source: An allowed source.
        directory: An empty directory, which the caller removes: after an error it contains what was received.
        access: Used only if the source is the tracking server's own.
        settings: Limits; default: those of the environment.

    Raises:
        DownloadError: The source did not provide the files within the limits.
        RegistryError: The tracking server cannot be reached.
    """
    limits = settings or DownloadSettings.from_env()
    used = access if source.own else Access()
    order = json.dumps({"source": asdict(source), "directory": str(directory.resolve()), "access": asdict(used)})
    child = _started(order, own=source.own)
    try:
        _wait(child, directory, source, limits)
        if child.returncode:
            raise _failure(child, source)
        _check_size(directory, source, limits.download_megabytes)
    finally:
        _end(child)
    return directory / fetching.RESULT


def _started(order: str, *, own: bool) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if own or not name.startswith(_CREDENTIALS)}
    # -P: a module in the working directory must not replace one of the standard library.
    child = subprocess.Popen(  # noqa: S603 - this interpreter and this package
        [sys.executable, "-P", "-m", fetching.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "MLFLOW_ALLOW_HTTP_REDIRECTS": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,  # its own children end with it
        text=True,
    )
    assert child.stdin is not None  # noqa: S101 - for mypy
    child.stdin.write(f"{order}\n")
    child.stdin.flush()  # it stays open: the child ends when this process does
    return child


def _wait(child: "subprocess.Popen[str]", directory: Path, source: Source, limits: DownloadSettings) -> None:
    end = time.monotonic() + limits.download_seconds
    while True:
        try:
            child.wait(CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        _check_size(directory, source, limits.download_megabytes)
        if time.monotonic() >= end:
            raise DownloadError(
                "unavailable",
                f"{source} did not provide the release within {math.ceil(limits.download_seconds)} s; try again, or"
                " raise BUCKLER_DOWNLOAD_SECONDS on a slow line",
            )


def _check_size(directory: Path, source: Source, megabytes: int) -> None:
    size = entries = 0
    for parent, directories, files in os.walk(directory):
        entries += len(directories) + len(files)
        size += sum(_size(Path(parent) / name) for name in files)
    if size > megabytes * MEBIBYTE or entries > MOST_ENTRIES:
        raise DownloadError(
            "unavailable",
            f"expected at most {megabytes} MiB in {MOST_ENTRIES} files and directories, got more from {source}; find"
            " out what it is, or raise BUCKLER_DOWNLOAD_MEGABYTES",
        )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # it was renamed meanwhile
        return 0


def _end(child: "subprocess.Popen[str]") -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _failure(child: "subprocess.Popen[str]", source: Source) -> RegistryError:
    text = child.stdout.read() if child.stdout is not None else ""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        found = {"error": f"the download ended with status {child.returncode}", "unreachable": False}
    if found["unreachable"]:
        return RegistryError(f"cannot reach {source}: {found['error']}")
    return DownloadError(
        "unavailable", f"{source} did not provide the release: {found['error']}; publish it again with `dvc repro`"
    )
