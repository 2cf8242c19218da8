"""The pictures of a split, decoded, with their labels as class indices."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from buckler.data import manifest
from buckler.errors import DataError
from buckler.modality.base import Images, InputForm, with_progress

SPLITS = ("train", "calibration", "test")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Decoded pictures: ``images`` (n, ...) float32 in 0..1, ``truth`` (n,) class indices, their ``ids``."""

    ids: tuple[str, ...]
    images: Images
    truth: npt.NDArray[np.int64]

    @property
    def ids_digest(self) -> str:
        """Return the SHA-256 of the ids, one per line, so that a shell can compute it from a table's column."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.ids).encode()).hexdigest()

    def subset(self, count: int, seed: int) -> "Pictures":
        """Return ``count`` pictures chosen at random, in their original order; all for zero or too large a count."""
        rows = drawn_rows(len(self.ids), count, seed)
        return self if len(rows) == len(self.ids) else self.at(rows)

    def at(self, rows: npt.NDArray[np.int64]) -> "Pictures":
        """Return the pictures at ``rows``."""
        return Pictures(tuple(self.ids[row] for row in rows), self.images[rows], self.truth[rows])

    def changed(self, change: Callable[[Images], Images], *, description: str) -> "Pictures":
        """Return the pictures after ``change``, which depends on no other picture, with a progress bar."""
        images = np.empty_like(self.images)
        for place in with_progress(range(len(images)), description, "picture"):
            images[place : place + 1] = change(self.images[place : place + 1])
        return replace(self, images=images)

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the positions of the pictures ``ids``, in their order."""
        rows = {name: row for row, name in enumerate(self.ids)}
        return np.array([rows[name] for name in ids], np.int64)


def drawn_rows(total: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return ``count`` of ``total`` positions chosen at random, ascending; all for zero or too large a count."""
    if not 0 < count < total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def load(split: Path, labels: Sequence[str], form: InputForm, *, description: str | None = None) -> Pictures:
    """Return the inputs of the files that the manifest ``split`` lists.

    Args:
        split: A manifest as ``data/splits/test.csv``.
        labels: Class names, in the order of the class indices.
        form: What the network reads.
        description: Label of a progress bar; None shows no bar.

    Raises:
        DataError: The manifest names a label that ``labels`` lacks, or a file that is gone.
    """
    frame = manifest.read(split)
    truth = truth_of(split, labels)
    paths = [Path(path) for path in frame["path"]]
    return Pictures(ids=tuple(frame["id"]), images=form.load_batch(paths, description=description), truth=truth)


def truth_of(split: Path, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the class indices of the pictures in the manifest ``split``, in its order; errors as for `load`."""
    found = manifest.read(split)["label"]
    unknown = sorted(set(found) - set(labels))
    if unknown:
        raise DataError(f"{split} has labels {unknown}, the model knows {list(labels)}; run `dvc repro`")
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places[label] for label in found], np.int64)


def columns(split: Path, ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of the manifest ``split`` for the pictures ``ids``, as text, in the order of ``ids``."""
    frame = manifest.read(split).astype("str").set_index("id", drop=False).loc[list(ids)]
    return {str(name): frame[name].tolist() for name in frame.columns}


def labels_of(split: Path) -> tuple[str, ...]:
    """Return the class names in the manifest ``split``, sorted."""
    return tuple(manifest.labels(manifest.read(split)))


def version(splits: Path) -> str:
    """Return ``sha256:...`` over the contents of the splits in the folder ``splits``.

    It depends on contents, labels and assignment to splits: after a picture has moved from training to test, the
    version differs, and models trained before must not be tested on it.
    """
    sides = [f"{name} {manifest.version(manifest.read(splits / f'{name}.csv'))}\n" for name in SPLITS]
    return f"sha256:{hashlib.sha256(''.join(sides).encode()).hexdigest()}"
