"""Features of a frozen base, kept on disk piece by piece: an interrupted measurement resumes where it ended."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from buckler.modality import table
from buckler.modality.base import InputForm
from buckler.models.classifier import Classifier
from buckler.models.forward import Features
from buckler.models.networks.base import Architecture, flatten
from buckler.state import files

PIECE = 16  # pictures


def features_of(
    network: Architecture, weights: str, pictures: Sequence[Path], *, size: int, seed: int, kept: Path
) -> Features:
    """Return the features ``(n, features)`` of the pictures in files.

    Args:
        network: With a frozen base.
        weights: As ``train.weights``; a file.
        pictures: The files.
        size: Side of the network's input in pixels.
        seed: Of the weights ``none``.
        kept: Folder of finished pieces; a piece depends on the content of its pictures and on the network.
    """
    identity = f"{network.name} {size} {seed} {_digest([Path(weights)]) if weights != 'none' else weights}"
    picture = table.find("picture")
    form = InputForm(picture, picture.shape(size))
    pieces = dict(_pieces(pictures, identity, kept))
    missing = {path: part for path, part in pieces.items() if not path.exists()}
    if missing:
        kept.mkdir(parents=True, exist_ok=True)
        base = flatten(network.base(form.shape, weights=weights, seed=seed))
        extractor = Classifier(base, batch_size=PIECE)
        for path, part in tqdm(missing.items(), unit="piece", desc=f"features of {network.name}"):
            with files.replacing(path) as aside, aside.open("wb") as file:
                np.save(file, extractor.forward(form.load_batch(part)).logits)
    return np.concatenate([np.load(path) for path in pieces])


def _pieces(pictures: Sequence[Path], identity: str, kept: Path) -> Iterator[tuple[Path, Sequence[Path]]]:
    for start in range(0, len(pictures), PIECE):
        part = pictures[start : start + PIECE]
        name = hashlib.sha256(f"{identity} {_digest(part)}".encode()).hexdigest()[:20]
        yield kept / f"{name}.npy", part


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
