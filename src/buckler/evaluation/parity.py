"""How far a runtime's answers lie from the reference's: on clean pictures, under attack, and in the detector's eyes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from buckler.detection.adversarial import AdversarialDetector
from buckler.modality.base import Images, Labels
from buckler.models.forward import Columns, Forward, probabilities


@dataclass(frozen=True, slots=True)
class Parity:
    """What lies between two runtimes of one network, as shares.

    Attributes:
        pictures: Clean pictures compared.
        label_agreement: Share of them with the same label.
        probability_gap: Mean distance (total variation) of the probabilities.
        robust_accuracy_gap: Largest difference over the radii in the share right clean and attacked.
        detector_auc_gap: The same of the area under the detector's ROC curve, each runtime's detector its own.
    """

    pictures: int
    label_agreement: float
    probability_gap: float
    robust_accuracy_gap: float
    detector_auc_gap: float


@dataclass(frozen=True, slots=True)
class Case:
    """What both runtimes are asked.

    Attributes:
        training: Clean pictures that a detector is fitted on.
        guilty: The same, attacked.
        clean: Other pictures, with their labels.
        attacked: Radius in 1/255 -> the same, attacked; both runtimes get the same pixels.
        read, probed: Columns of the features, as `buckler.detection.adversarial.AdversarialDetector.fit` takes them.
    """

    training: Images
    guilty: Images
    clean: tuple[Images, Labels]
    attacked: Mapping[int, Images]
    read: Columns
    probed: Columns


@dataclass(frozen=True, slots=True)
class Answers:
    """What a runtime made of a case."""

    training: Forward
    guilty: Forward
    clean: Forward
    attacked: Mapping[int, Forward]

    @classmethod
    def of(cls, judge: Any, case: Case) -> "Answers":
        """Ask ``judge``, which has the ``forward`` of `buckler.evaluation.roles.Judge`."""
        attacked = {radius: judge.forward(images) for radius, images in case.attacked.items()}
        training, guilty, clean = (judge.forward(images) for images in (case.training, case.guilty, case.clean[0]))
        return cls(training, guilty, clean, attacked)


def compare(reference: Answers, candidate: Answers, case: Case) -> Parity:
    """Return how far ``candidate`` lies from ``reference`` on ``case``."""
    ours, theirs = (probabilities(answers.clean.logits) for answers in (candidate, reference))
    aucs, robust = (
        [function(answers, case) for answers in (candidate, reference)] for function in (_detector_aucs, _robust)
    )
    return Parity(
        pictures=len(ours),
        label_agreement=float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        probability_gap=float(np.abs(ours - theirs).sum(axis=1).mean() / 2),
        robust_accuracy_gap=float(np.abs(robust[0] - robust[1]).max()),
        detector_auc_gap=float(np.abs(aucs[0] - aucs[1]).max()),
    )


def _robust(answers: Answers, case: Case) -> npt.NDArray[np.float64]:
    truth = case.clean[1]
    right = answers.clean.logits.argmax(axis=1) == truth
    return np.array([(right & (f.logits.argmax(axis=1) == truth)).mean() for f in answers.attacked.values()])


def _detector_aucs(answers: Answers, case: Case) -> npt.NDArray[np.float64]:
    sides = [answers.training], [answers.guilty]
    detector = AdversarialDetector.fit(answers.training, *sides, read=case.read, probed=case.probed)
    clean = detector.score(answers.clean)
    scores = [detector.score(forward) for forward in answers.attacked.values()]
    truth = np.repeat([0, 1], len(clean))
    return np.array([roc_auc_score(truth, np.concatenate([clean, attacked])) for attacked in scores])
