"""Recently labelled pictures: files added to class folders after the model was trained."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from buckler.data import manifest
from buckler.data.folder import Folder
from buckler.data.pictures import Pictures
from buckler.errors import DataError, UnusableInputError
from buckler.modality.base import InputForm

log = logging.getLogger(__name__)


def load_recent(root: Path, labels: Sequence[str], form: InputForm, *, count: int, known: Sequence[Path]) -> Pictures:
    """Return the most recent pictures of the class folders in ``root``, sorted by name.

    Undecodable files are left out, and so are pictures that the model was trained on: they would bias the result.

    Args:
        root: Contains one folder per class.
        labels: Class names, in the order of the class indices.
        form: What the model reads.
        count: Number of pictures, the latest modified first; 0 takes all.
        known: Manifests of pictures to leave out.

    Raises:
        DataError: ``root`` is missing, contains a folder that is not a class, a link, a special file or an unreadable
            name, or has no new picture.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of class folders at {root}, there is none; see watch.recent.path")
    folder = Folder(root)
    for entry in folder.skipped():
        log.warning("left out: %s: %s", root / entry.name, entry.reason)
    unknown = [name for name in folder.folders() if name not in labels]
    if unknown:
        raise DataError(f"{root} has folders {unknown}, expected classes of the model: {list(labels)}")
    learnt = {digest for path in known for digest in manifest.read(path)["sha256"]}
    files = [file for label in folder.folders() for file in folder.files(label)]
    files.sort(key=lambda file: (-(root / file).lstat().st_mtime, file))
    chosen: list[tuple[str, np.ndarray, int]] = []
    for file in files:
        if count and len(chosen) == count:
            break
        content = folder.read(file)
        if hashlib.sha256(content).hexdigest() in learnt:
            continue
        try:
            pixels = form.load(content)
        except UnusableInputError as error:
            log.warning("left out: %s: %s", root / file, error)
            continue
        chosen.append((file, pixels, labels.index(PurePosixPath(file).parts[0])))
    if not chosen:
        raise DataError(f"no new picture in {root}; add some to the class folders, or clear watch.recent.path")
    ids, pixels_of, truth = zip(*sorted(chosen, key=lambda each: each[0]), strict=True)
    return Pictures(tuple(ids), np.stack(pixels_of), np.array(truth, np.int64))
