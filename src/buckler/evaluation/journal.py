"""What a long evaluation has found out so far, on disk: killed at any point, it goes on where it stopped.

Written for one reader, the same evaluation started again. Whatever an answer depends on is part of where it is
looked for, this package's code included, so that nothing stale is ever found.
"""

import hashlib
import io
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.state import files
from buckler.trust.digests import canonical

Answer = Mapping[str, npt.NDArray[Any]]

# What turns a model and pictures into answers; reports about them may change without another attack.
CODE = (
    *("attacks/*.py", "compute/*.py", "detection/*.py", "modality/**/*.py", "models/**/*.py"),
    *("evaluation/evasion.py", "evaluation/suite.py"),
)
LIBRARIES = ("numpy", "scipy", "keras", "tensorflow", "tensorflow-cpu", "adversarial-robustness-toolbox")
KEPT_DAYS = 30  # that an evaluation nobody went on with is kept
CHECKSUM_BYTES = hashlib.sha256().digest_size


class Journal:
    """Answers by what was asked, a file each.

    Args:
        root: Directory of this and earlier evaluations, a subdirectory each.
        about: What all answers of this evaluation depend on, as JSON holds it: the model's digest, the data's version.
    """

    def __init__(self, root: Path, about: Mapping[str, Any]) -> None:
        self._root = root
        self._directory = root / _digest({"about": about, "code": code_digest(), "libraries": dict(_libraries())})

    def recall(self, question: Mapping[str, Any]) -> Answer | None:
        """Return what ``record`` was given for ``question``; None where there is nothing, or it is damaged."""
        try:
            content = self._path(question).read_bytes()
        except FileNotFoundError:
            return None
        checksum, payload = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if hashlib.sha256(payload).digest() != checksum:
            return None
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def record(self, question: Mapping[str, Any], answer: Answer) -> None:
        """Keep ``answer``; a reader finds all of it or nothing, whenever this process is killed.

        Args:
            question: What the answer depends on beside ``about``, as JSON holds it.
            answer: Arrays by name.
        """
        payload = io.BytesIO()
        np.savez(payload, **answer)  # type: ignore[arg-type]
        path = self._path(question)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = hashlib.sha256(payload.getvalue()).digest() + payload.getvalue()
        files.write(path, content, mode=files.SHARED)

    def finish(self) -> None:
        """Forget this evaluation, whose reports are written, and those that nobody has gone on with for long."""
        shutil.rmtree(self._directory, ignore_errors=True)
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        for directory in self._root.glob("*/"):
            with suppress(FileNotFoundError):  # another evaluation may be finishing too
                if directory.stat().st_mtime < oldest:
                    shutil.rmtree(directory, ignore_errors=True)

    def _path(self, question: Mapping[str, Any]) -> Path:
        return self._directory / f"{_digest(question)}.npz"


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
