"""The program that downloads one release: ``python -m buckler.serving.fetching``; `buckler.serving.downloads` runs it.

It reads one line of JSON from its standard input, and ends when that is closed. Redirects are not followed, and names
that a server lists are plain names of files: nothing is written elsewhere.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from buckler.serving.artifact_sources import PROXY, Source

RESULT = "release"  # the directory that is written
CHUNK_BYTES = 256 * 1024
LIST_BYTES = 1024 * 1024
MOST_NAMES, DEEPEST = 1000, 10
WAITS = (15, 60)  # seconds to connect, and between two pieces of an answer; the parent process limits the whole
AWS_SIGNATURE = "aws-sigv4"  # in place of a plugin's name
GATEWAY_STATUS = frozenset({502, 503, 504})  # a server that is down, behind a gateway that is up


class FetchError(Exception):
    """The source does not provide the files; ``unreachable``: it does not answer at all."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


def main() -> None:
    """Run; the exit code is 1 after an error, which standard output then has as JSON."""
    order = json.loads(sys.stdin.readline())
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries of storages print, and nobody reads it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source = Source(**order["source"])
    try:
        _fetch(source, Path(order["directory"]) / RESULT, order["access"])
    except Exception as error:  # libraries of storages fail in many ways
        unreachable = source.own and isinstance(error, FetchError) and error.unreachable
        line = " ".join(str(error).split())[:500] or type(error).__name__
        report.write(json.dumps({"error": line, "unreachable": unreachable}))
        report.flush()
        os._exit(1)  # threads of a storage's library may still wait for it


def _end_with_parent() -> NoReturn:
    sys.stdin.read()
    os._exit(1)


def _fetch(source: Source, to: Path, access: Mapping[str, Any]) -> None:
    if source.scheme == "file":
        _copy(Path(source.path), to)
    elif source.scheme in ("http", "https"):
        _ArtifactServer(source, access).fetch(to)
    else:
        _fetch_from_storage(source, to)


def _copy(directory: Path, to: Path) -> None:
    if not directory.is_dir():
        raise FetchError("there is no such directory")
    shutil.copytree(directory, to, symlinks=True)  # links stay links, which the verification refuses


def _fetch_from_storage(source: Source, to: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    above, _, name = str(source).rpartition("/")
    if name != to.name:
        raise FetchError(f"expected a directory {to.name}, got {name}")
    repository = get_artifact_repository(above)
    repository.download_artifacts(name, str(to.parent))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    is_directory: bool


class _ArtifactServer:
    """A directory of an artifact proxy of MLflow."""

    def __init__(self, source: Source, access: Mapping[str, Any]) -> None:
        root, _, self._path = source.path.partition(PROXY)
        self._endpoint = f"{source.scheme}://{source.authority}{root}{PROXY}"
        self._get = _getter(access)
        self._names = 0

    def fetch(self, to: Path) -> None:
        """Write the directory and all below it to ``to``."""
        self._fetch(self._path.strip("/"), to, depth=1)

    def _fetch(self, path: str, to: Path, depth: int) -> None:
        to.mkdir()
        entries = self._list(path)
        self._names += len(entries)
        if self._names > MOST_NAMES or depth > DEEPEST:
            raise FetchError(f"it lists more than {MOST_NAMES} names, or more than {DEEPEST} nested directories")
        if not entries and depth == 1:
            raise FetchError("it lists no files")
        for entry in entries:
            if entry.is_directory:
                self._fetch(f"{path}/{entry.name}", to / entry.name, depth + 1)
            else:
                self._download(f"{path}/{entry.name}", to / entry.name)

    def _list(self, path: str) -> list[_Entry]:
        with self._get(self._endpoint, params={"path": path}) as answer:
            content = answer.raw.read(LIST_BYTES + 1, decode_content=False)
        if len(content) > LIST_BYTES:
            raise FetchError(f"expected a list of at most {LIST_BYTES} bytes, got more")
        try:
            entries = [
                _Entry(entry["path"], bool(entry.get("is_dir"))) for entry in json.loads(content).get("files", [])
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FetchError("expected a list of files as JSON, got something else") from error
        for entry in entries:
            _check_name(entry.name)
        return entries

    def _download(self, path: str, to: Path) -> None:
        with self._get(f"{self._endpoint}/{quote(path)}") as answer, to.open("xb") as file:
            for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in name):
        raise FetchError(f"expected plain names of files, got {ascii(name)[:100]}")


def _getter(access: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a function that sends a GET request and returns the answer, whose body has not been read."""
    import requests

    session = requests.Session()
    session.headers.update({**access["headers"], "Accept-Encoding": "identity"})
    session.verify, session.cert = access["verify"], access["certificate"]
    # With an authentication of its own, requests does not look for one in ~/.netrc.
    session.auth = _plugin(access["plugin"]) if access["plugin"] else lambda request: request

    def get(url: str, **options: Any) -> Any:
        try:
            answer = session.get(url, stream=True, allow_redirects=False, timeout=WAITS, **options)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise FetchError(f"{error}", unreachable=True) from error
        if answer.is_redirect or answer.status_code != requests.codes.ok:
            what = "a redirect, which is not followed" if answer.is_redirect else f"HTTP {answer.status_code}"
            answer.close()
            raise FetchError(f"it answers {what}", unreachable=answer.status_code in GATEWAY_STATUS)
        return answer

    return get


def _plugin(name: str) -> Any:
    if name == AWS_SIGNATURE:
        from requests_auth_aws_sigv4 import AWSSigV4

        return AWSSigV4("execute-api")
    from mlflow.tracking.request_auth.registry import fetch_auth

    return fetch_auth(name)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
