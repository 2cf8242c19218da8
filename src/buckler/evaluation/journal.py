"""Finished parts of evaluations, on disk: a killed evaluation resumes, and a later one computes no part twice.

The path of a part is a digest of everything that its answers depend on, this package's code included, so that a
changed model, data set or program never finds an old part.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.compute.machine import instruction_set
from buckler.state import files
from buckler.trust.digests import canonical

Arrays = Mapping[str, npt.NDArray[Any]]

# Code that decides the answers to pictures; reports on the answers may change without another attack.
CODE = (
    *("attacks/*.py", "compute/*.py", "detection/*.py", "modality/**/*.py", "models/**/*.py"),
    *("evaluation/crafter_and_scorer.py", "evaluation/evasion.py", "evaluation/suite.py"),
)
LIBRARIES = (
    *("numpy", "scipy", "keras", "tensorflow", "tensorflow-cpu", "openvino", "adversarial-robustness-toolbox"),
    *("scikit-image", "PyWavelets"),
)
LARGEST_BYTES = 2 * 1024**3  # of a root; beyond it the parts that were not used for longest are deleted
CHECKSUM_BYTES = hashlib.sha256().digest_size


class Journal:
    """Store of arrays, one file for each key.

    Args:
        root: Directory of this and earlier evaluations, a subdirectory each.
        about: JSON values that all answers of this evaluation depend on: the model's digest, the size of a batch.
    """

    def __init__(self, root: Path, about: Mapping[str, Any]) -> None:
        self._root = root
        program = {"code": code_digest(), "libraries": dict(_libraries()), "instructions": instruction_set()}
        self._directory = root / _digest({"about": about, **program})

    def load(self, key: Mapping[str, Any]) -> Arrays | None:
        """Return the arrays stored under ``key``; None if there are none or the file is damaged."""
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        checksum, payload = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if hashlib.sha256(payload).digest() != checksum:
            return None
        with suppress(OSError):  # another evaluation may have deleted it
            os.utime(self._path(key))
        with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def store(self, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Store ``arrays`` atomically.

        Args:
            key: JSON values that the arrays depend on in addition to ``about``.
            arrays: By name.
        """
        payload = io.BytesIO()
        np.savez(payload, **arrays)  # type: ignore[arg-type]
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = hashlib.sha256(payload.getvalue()).digest() + payload.getvalue()
        files.write(path, content, mode=files.SHARED)

    def finish(self) -> None:
        """Keep the parts for later evaluations, within the limit of the root."""
        _prune(self._root, LARGEST_BYTES)

    def forget(self) -> None:
        """Delete the parts of this evaluation, so that the next one computes all of them again."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._directory / f"{_digest(key)}.npz"


def _prune(root: Path, limit: int) -> None:
    """Delete the least recently used parts in ``root`` until all are at most ``limit`` bytes."""
    parts = []
    for path in root.glob("*/*.npz"):
        with suppress(FileNotFoundError):  # another evaluation may be pruning, too
            found = path.stat()
            parts.append((found.st_mtime, found.st_size, path))
    total = 0
    for _, size, path in sorted(parts, reverse=True):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
    for directory in root.glob("*/"):
        with suppress(OSError):  # not empty
            directory.rmdir()


def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """Return the digest of the source that crafts and scores, below ``package``."""
    files = sorted(path for pattern in CODE for path in package.glob(pattern))
    return _digest({path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in files})


def _libraries() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(values)).hexdigest()
