"""The newest labelled pictures: what people have put into class folders since the model was made."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from buckler.data import manifest
from buckler.data.pictures import Pictures
from buckler.errors import DataError, UnusableImageError
from buckler.modality.picture import images
from buckler.trust.digests import file_digest

log = logging.getLogger(__name__)


def load(root: Path, labels: Sequence[str], *, size: int, count: int, known: Sequence[Path]) -> Pictures:
    """Return the newest pictures of the class folders in ``root``, in the order of their names.

    A picture that the model has learnt from would flatter it and is left out, and so is one that cannot be decoded.

    Args:
        root: A folder for each class that there are new pictures of.
        labels: Class names; a picture's index is its label's place in there.
        size: Pixels a side.
        count: How many, the newest by their files' time; 0 takes all.
        known: Manifests of pictures that do not count as new.

    Raises:
        DataError: No such folder, a folder that is no class, or no new picture in any of them.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of class folders at {root}, there is none; see watch.recent.path")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    unknown = [folder.name for folder in folders if folder.name not in labels]
    if unknown:
        raise DataError(f"{root} has folders {unknown}, the model knows {list(labels)}")
    learnt = {digest for path in known for digest in manifest.read(path)["sha256"]}
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    files.sort(key=lambda file: (-file.stat().st_mtime, file.as_posix()))
    chosen: list[tuple[str, np.ndarray, int]] = []
    for file in files:
        if count and len(chosen) == count:
            break
        if file_digest(file).removeprefix("sha256:") in learnt:  # manifests hold the bare digits
            continue
        try:
            pixels = images.load_pixels(file, size=size)
        except UnusableImageError as error:
            log.warning("left out: %s: %s", file, error)
            continue
        name = file.relative_to(root)
        chosen.append((name.as_posix(), pixels, labels.index(name.parts[0])))
    if not chosen:
        raise DataError(f"no new picture in {root}; put some into a folder a class, or empty watch.recent.path")
    ids, pixels_of, truth = zip(*sorted(chosen, key=lambda each: each[0]), strict=True)
    return Pictures(tuple(ids), np.stack(pixels_of), np.array(truth, np.int64))
