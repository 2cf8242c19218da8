"""Which sources releases may be downloaded from.

Whoever can write the registry chooses the source of a version. It is opened only if it is the tracking server's own
artifact proxy, a directory in which a local registry keeps its artifacts, or named by ``BUCKLER_ARTIFACT_SOURCES``.
Sources are compared after parsing, and only their parsed form is opened.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from buckler.errors import DownloadError
from buckler.state import paths

PROXY = "/api/2.0/mlflow-artifacts/artifacts"  # path of MLflow's artifact proxy
SETTING = "BUCKLER_ARTIFACT_SOURCES"

_PORTS = {"http": 80, "https": 443}
_PROXY_SCHEME = "mlflow-artifacts"
_SQLITE = "sqlite:///"
# What parsers read differently: control characters, spaces, backslashes, queries, fragments, other scripts.
_PLAIN = re.compile(r"[!-~]+")
_AMBIGUOUS = frozenset("\\?#")


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed source of artifacts.

    Attributes:
        scheme: ``file``, ``http``, ``https``, or that of a storage, such as ``s3``.
        authority: Host and port, the port never left out; the text as it stands for a storage; empty for files.
        path: Absolute, without a slash at its end; empty for the root.
        own: Whether it is the tracking server's own artifact proxy, the only one to get its credentials.
    """

    scheme: str
    authority: str
    path: str
    own: bool = False

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def __truediv__(self, below: str) -> "Source":
        return replace(self, path=f"{self.path}/{below}")

    def contains(self, other: "Source") -> bool:
        """Return whether ``other`` is the same source or below it."""
        same = (self.scheme, self.authority) == (other.scheme, other.authority)
        return same and (other.path == self.path or other.path.startswith(f"{self.path}/"))


def allowed_source(uri: str, tracking_uri: str, permitted: Sequence[str] = ()) -> Source:
    """Return the source that ``uri`` names.

    Args:
        uri: What the registry names, in the form that is opened: neither ``models:`` nor ``runs:``.
        tracking_uri: The tracking server.
        permitted: Further permitted sources, as in the setting.

    Raises:
        DownloadError: It may not be opened.
    """
    proxy = _proxy_of(tracking_uri)
    try:
        source = _parsed(uri, proxy)
        further = [_parsed(text, proxy) for text in permitted]
    except (ValueError, OSError, RuntimeError) as error:  # the last two: links that lead in a circle
        raise _refused(_without_userinfo(uri), f"{error}") from error
    if proxy is not None and proxy.contains(source):
        return replace(source, own=True)
    allowed = [*_local(tracking_uri), *further]
    if not any(each.contains(source) for each in allowed):
        listed = ", ".join(map(str, [*([proxy] if proxy else []), *allowed]))
        raise _refused(str(source), f"expected a source below one of {listed}")
    if source.scheme in _PORTS and not source.path.partition(PROXY)[1]:
        raise _refused(str(source), f"expected an artifact server of MLflow, whose path contains {PROXY}")
    return source


def local_directories(tracking_uri: str) -> tuple[Path, ...]:
    """Return the directories in which a registry without a server keeps its artifacts; new ones go to the first."""
    project = paths.MLFLOW_ARTIFACTS.resolve()
    if not tracking_uri.startswith(_SQLITE):
        return (project,)
    beside = Path(tracking_uri.removeprefix(_SQLITE).partition("?")[0]).resolve().parent / paths.MLFLOW_ARTIFACTS.name
    return tuple(dict.fromkeys((beside, project)))


def _local(tracking_uri: str) -> Iterable[Source]:
    return [Source("file", "", str(directory)) for directory in local_directories(tracking_uri)]


def _refused(shown: str, reason: str) -> DownloadError:
    return DownloadError(
        "source",
        f"its source {shown} is not allowed: {reason}; find who writes to the registry, or add the source to {SETTING}",
    )


def _proxy_of(tracking_uri: str) -> Source | None:
    found = urlsplit(tracking_uri)
    if found.scheme not in _PORTS:
        return None
    return Source(found.scheme, _host_and_port(found), f"{found.path.rstrip('/')}{PROXY}")


def _parsed(uri: str, proxy: Source | None) -> Source:
    """Return the source of ``uri``.

    Raises:
        ValueError: It is not one that all programs read in the same way.
    """
    if not _PLAIN.fullmatch(uri) or _AMBIGUOUS & set(uri):
        raise ValueError("expected a plain address without spaces, backslashes, queries and fragments")
    found = urlsplit(uri)
    if found.scheme in ("", "file"):
        return _file(found)
    if "%" in uri:
        raise ValueError("expected an address without percent-encoded characters")
    path = _checked(found.path)
    if found.scheme == _PROXY_SCHEME:
        return _proxied(found, path, proxy)
    if found.scheme in _PORTS:
        if "@" in found.netloc:
            raise ValueError("expected an address without user and password")
        return Source(found.scheme, _host_and_port(found), path)
    if not found.netloc:
        raise ValueError("expected an address with a host or bucket")
    return Source(found.scheme, found.netloc, path)


def _file(found: SplitResult) -> Source:
    if found.netloc not in ("", "localhost"):
        raise ValueError("expected a local file without a host")
    path = unquote(found.path) if found.scheme else found.path
    if "\0" in path or not path.startswith("/"):
        raise ValueError("expected an absolute path")
    return Source("file", "", str(Path(_checked(path) or "/").resolve()))  # a link below it may lead elsewhere


def _proxied(found: SplitResult, path: str, proxy: Source | None) -> Source:
    if proxy is None:
        raise ValueError("expected MLFLOW_TRACKING_URI to name a server, because mlflow-artifacts: is its proxy")
    if not found.netloc:
        return replace(proxy, path=f"{proxy.path}{path}")
    if "@" in found.netloc:
        raise ValueError("expected an address without user and password")
    authority = _host_and_port(found._replace(scheme=proxy.scheme))
    root = proxy.path if authority == proxy.authority else PROXY
    return Source(proxy.scheme, authority, f"{root}{path}")


def _checked(path: str) -> str:
    path = path.rstrip("/")
    if path and (not path.startswith("/") or {"", ".", ".."} & set(path.split("/")[1:])):
        raise ValueError("expected a path without empty parts, . and ..")
    return path


def _host_and_port(found: SplitResult) -> str:
    if not found.hostname:
        raise ValueError("expected an address with a host")
    host = f"[{found.hostname}]" if ":" in found.hostname else found.hostname
    return f"{host}:{found.port or _PORTS[found.scheme]}"


def _without_userinfo(uri: str) -> str:
    shown = re.sub(r"//[^/\\]*@", "//", uri)
    return ascii(shown[:200])
