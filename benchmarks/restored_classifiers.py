"""Trains a head of VGG-19 behind each restoration step, and measures it on clean, degraded and attacked pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.data import collection, splits
from buckler.data.layout import Layout
from buckler.data.pictures import SPLITS
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import Rate
from buckler.modality.base import Images, InputForm, Labels, Radius
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.modality.picture.restoration.base import Step
from buckler.modality.picture.restoration.degradations import DEGRADATIONS, SEVERITIES, degraded
from buckler.models.classifier import Classifier
from buckler.models.forward import Features
from buckler.models.gradients import GradientClassifier
from buckler.models.networks import table
from buckler.models.networks.base import HeadShape, flatten, join
from buckler.training.loop import Schedule, train_head
from buckler.trust.digests import file_digest

NEAR_BITS, NEAR_CORRELATION = 10, 0.94  # of near-duplicates, as in params.yaml
TEST, CALIBRATION = 0.4, 0.1  # shares of the pictures
RADII_255 = (1, 2)
STEPS = 10  # of PGD
LARGEST_255 = 25.0  # standard deviation of augmenting noise in 1/255; each picture's is uniform between 0 and this
BATCH = 16
SCHEDULE = Schedule(epochs=40, batch_size=32, learning_rate=3e-4, seed=7)

Flags = npt.NDArray[np.bool_]
Fault = tuple[str, int]  # kind and severity
CLEAN: Fault = ("clean", 0)
FAULTS: tuple[Fault, ...] = tuple((kind, severity) for kind in DEGRADATIONS for severity in SEVERITIES)


@dataclass(frozen=True, slots=True)
class Split:
    """Paths and class indices of the pictures of one split, in random order."""

    paths: tuple[Path, ...]
    labels: Labels

    def load(self, size: int, count: int = 0) -> Images:
        """Return the first ``count`` pictures, all for zero, resized to ``size`` a side."""
        form = InputForm(PICTURE, PICTURE.shape(size))
        return form.load_batch(self.paths[: count or None], description=f"decode at {size} pixels")


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one classifier.

    Attributes:
        right: Which test pictures it answers rightly, clean and, the first of them, with each fault, ``(n,)``.
        robust: By radius in 1/255: share right when clean and under every attack up to it.
    """

    right: dict[Fault, Flags]
    robust: dict[int, Rate]


def split(folder: Path, *, per_class: int, seed: int) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return the splits of a folder of class folders and the names of the classes; near-duplicates stay together.

    Raises:
        DataError: The folder is no such folder, or has too few pictures.
    """
    items = collection.read(folder, Layout()).items(per_class=per_class, seed=seed)
    paths = [folder / item.id for item in items]
    frame = pd.DataFrame(
        {
            "label": [item.label for item in items],
            "group": [item.group for item in items],
            "sha256": [file_digest(path) for path in paths],
        }
    )
    bar = tqdm(paths, desc="compare pictures", unit="picture")
    appearances = [PICTURE.appearance(path) for path in bar]
    pairs = PICTURE.near_duplicates(appearances, max_bits=NEAR_BITS, min_correlation=NEAR_CORRELATION)
    assigned = splits.assign(frame, splits.group(frame, pairs), test=TEST, calibration=CALIBRATION, seed=seed)
    names = tuple(sorted(set(frame["label"])))
    labels = np.array([names.index(label) for label in frame["label"]], np.int64)
    order = np.random.default_rng(seed).permutation(len(paths))
    rows = {name: [int(row) for row in order if assigned[row] == name] for name in SPLITS}
    return {name: Split(tuple(paths[row] for row in these), labels[these]) for name, these in rows.items()}, names


class Bench:
    """The base network and the pictures at its size, shared by all classifiers.

    Args:
        parts: Result of `split`.
        weights: Keras file of VGG-19's base.
        size: Side of the network's input in pixels.
        classes: Number of classes.
        degraded: Test pictures given each fault.
        attacked: Test pictures under attack.
        seed: Of all random draws.
    """

    def __init__(
        self,
        parts: dict[str, Split],
        *,
        weights: str,
        size: int,
        classes: int,
        degraded: int,
        attacked: int,
        seed: int,
    ) -> None:
        self.images = {name: part.load(size) for name, part in parts.items()}
        self.labels = {name: part.labels for name, part in parts.items()}
        self._base = table.find("vgg19").base(PICTURE.shape(size), weights=weights, seed=seed)
        self._extractor = Classifier(flatten(self._base), batch_size=BATCH)
        self._classes, self._degraded, self._attacked, self._seed = classes, degraded, attacked, seed

    def train(self, step: Step, *, noise: bool = False) -> Classifier:
        """Return a classifier for pictures after ``step``; ``noise`` adds a noisy copy of each training picture."""
        copies = [self._features(step(self.images["train"]))]
        if noise:
            copies.append(self._features(step(self._noisy(self.images["train"]))))
        validation = self._features(step(self.images["calibration"])), self.labels["calibration"]
        head, _ = train_head(
            np.stack(copies),
            self.labels["train"],
            validation,
            classes=self._classes,
            head=HeadShape(),
            schedule=SCHEDULE,
        )
        return Classifier(join(self._base, head), batch_size=BATCH)

    def _features(self, images: Images) -> Features:
        return self._extractor.logits(images)

    def _noisy(self, images: Images) -> Images:
        generator = np.random.default_rng(self._seed)
        spread = generator.uniform(0, LARGEST_255 / 255, (len(images), 1, 1, 1))
        return np.asarray(np.clip(images + spread * generator.standard_normal(images.shape), 0, 1), np.float32)

    def measure(self, model: GradientClassifier, attackers: Sequence[GradientClassifier]) -> Measured:
        """Return the results on the test pictures of ``model``, attacked with the gradients of ``attackers``."""
        right = {}
        for fault in (CLEAN, *FAULTS):
            images = self.degraded(*fault)
            right[fault] = self._right(model, images, self.labels["test"][: len(images)])
        return Measured(right, self._robust(model, attackers, right[CLEAN]))

    def degraded(self, kind: str, severity: int) -> Images:
        """Return some test pictures with one fault, or all of them clean."""
        images = self.images["test"]
        return degraded(images[: self._degraded], kind, severity, seed=self._seed) if severity else images

    def _robust(
        self, model: GradientClassifier, attackers: Sequence[GradientClassifier], right: Flags
    ) -> dict[int, Rate]:
        images, labels = self.images["test"][: self._attacked], self.labels["test"][: self._attacked]
        rows, rates = np.flatnonzero(right[: self._attacked]), {}
        for radius in RADII_255:
            for attacker in attackers:
                batch = Batch(images[rows], labels[rows], ids=rows.tolist(), seed=self._seed)
                found = PGD(steps=STEPS)(attacker, batch, Radius(radius / 255)) if len(rows) else batch.images
                # As a file stores them.
                written = np.asarray(np.rint(found * 255) / 255, np.float32)
                rows = rows[self._right(model, written, labels[rows])]
            rates[radius] = wilson(len(rows), len(images))
        return rates

    @staticmethod
    def _right(model: GradientClassifier, images: Images, labels: Labels) -> Flags:
        return np.asarray(model.logits(images).argmax(axis=1) == labels)
