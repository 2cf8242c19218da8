"""Recently labelled pictures: files added to class folders after the model was trained."""

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


def load_recent(root: Path, labels: Sequence[str], *, size: int, count: int, known: Sequence[Path]) -> Pictures:
    """Return the most recent pictures of the class folders in ``root``, sorted by name.

    Undecodable files are left out, and so are pictures that the model was trained on: they would bias the result.

    Args:
        root: Contains one folder per class.
        labels: Class names, in the order of the class indices.
        size: Side of the result in pixels.
        count: Number of pictures, the latest modified first; 0 takes all.
        known: Manifests of pictures to leave out.

    Raises:
        DataError: ``root`` is missing, contains a folder that is not a class, or has no new picture.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of class folders at {root}, there is none; see watch.recent.path")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    unknown = [folder.name for folder in folders if folder.name not in labels]
    if unknown:
        raise DataError(f"{root} has folders {unknown}, expected classes of the model: {list(labels)}")
    learnt = {digest for path in known for digest in manifest.read(path)["sha256"]}
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.name[0] != "."]
    files.sort(key=lambda file: (-file.stat().st_mtime, file.as_posix()))
    chosen: list[tuple[str, np.ndarray, int]] = []
    for file in files:
        if count and len(chosen) == count:
            break
        if file_digest(file).removeprefix("sha256:") in learnt:  # manifests have no prefix
            continue
        try:
            pixels = images.load_pixels(file, size=size)
        except UnusableImageError as error:
            log.warning("left out: %s: %s", file, error)
            continue
        name = file.relative_to(root)
        chosen.append((name.as_posix(), pixels, labels.index(name.parts[0])))
    if not chosen:
        raise DataError(f"no new picture in {root}; add some to the class folders, or clear watch.recent.path")
    ids, pixels_of, truth = zip(*sorted(chosen, key=lambda each: each[0]), strict=True)
    return Pictures(tuple(ids), np.stack(pixels_of), np.array(truth, np.int64))
