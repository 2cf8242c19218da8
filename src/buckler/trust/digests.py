"""SHA-256 digests of files and directories, and the canonical bytes that are signed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from buckler.errors import VerdictError
from buckler.trust.opened_files import opened


def file_digest(path: Path) -> str:
    """Return ``sha256:…`` of a file's bytes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def file_digests(directory: Path) -> dict[str, str]:
    """Return relative posix path -> digest of every file below ``directory``, sorted.

    Raises:
        VerdictError: The directory is missing or empty (``missing``), or an entry is neither a file nor a
            directory, such as a symbolic link, whose target could change undetected (``digest``).
    """
    with opened(directory) as files:
        digests = files.digests
    if not digests:
        raise VerdictError("missing", f"expected files in {directory}, it is empty")
    return digests


def directory_digest(directory: Path) -> str:
    """Return ``sha256:…`` over the names and bytes of all files below ``directory``.

    Raises:
        VerdictError: As ``file_digests``.
    """
    return digest_of(file_digests(directory))


def digest_of(files: Mapping[str, str]) -> str:
    """Return the digest of a directory from the digests of its files."""
    return f"sha256:{hashlib.sha256(canonical(files)).hexdigest()}"


def checksum_list(files: Mapping[str, str]) -> str:
    """Return path -> digest as the list that ``sha256sum --check`` takes, one file a line.

    Source: GNU coreutils, "md5sum invocation": a line whose name has escapes begins with a backslash.
    """
    return "".join(_checksum_line(name, digest.removeprefix("sha256:")) for name, digest in files.items())


def _checksum_line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def canonical(values: object) -> bytes:
    """Return ``values`` as JSON with sorted keys and no spaces; NaN and infinity raise ``ValueError``."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
