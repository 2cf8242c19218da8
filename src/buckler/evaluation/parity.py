"""How far the answers of an exported network differ from the reference's: on clean pictures, under attack, and
in the detector's scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.detection.adversarial import AdversarialDetector
from buckler.measurements.results import Parity
from buckler.modality.base import Images, Labels
from buckler.models.forward import Columns, Forward, probabilities
from buckler.radius import StatedRadius


@dataclass(frozen=True, slots=True)
class ParityInputs:
    """Pictures that both runtimes answer; they get the same pixels.

    Attributes:
        training: Clean pictures that a detector is fitted on.
        training_attacked: The same pictures, attacked.
        clean: Other pictures, with their labels.
        attacked: Radius -> the pictures of ``clean``, attacked.
        read, probed: Columns of the features, as `buckler.detection.adversarial.AdversarialDetector.fit` takes them.
    """

    training: Images
    training_attacked: Images
    clean: tuple[Images, Labels]
    attacked: Mapping[StatedRadius, Images]
    read: Columns
    probed: Columns


@dataclass(frozen=True, slots=True)
class RuntimeAnswers:
    """The answers of one runtime to the pictures of `ParityInputs`."""

    training: Forward
    training_attacked: Forward
    clean: Forward
    attacked: Mapping[StatedRadius, Forward]

    @classmethod
    def of(cls, model: Any, inputs: ParityInputs) -> "RuntimeAnswers":
        """Return the answers of ``model``, which has the ``forward`` of `crafter_and_scorer.Scorer`."""
        return cls(
            training=model.forward(inputs.training),
            training_attacked=model.forward(inputs.training_attacked),
            clean=model.forward(inputs.clean[0]),
            attacked={radius: model.forward(images) for radius, images in inputs.attacked.items()},
        )


def compare(reference: RuntimeAnswers, candidate: RuntimeAnswers, inputs: ParityInputs) -> Parity:
    """Return how far the answers of ``candidate`` differ from those of ``reference``."""
    ours, theirs = (probabilities(answers.clean.logits) for answers in (candidate, reference))
    return Parity(
        pictures=len(ours),
        label_agreement=float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        probability_gap=float(np.abs(ours - theirs).sum(axis=1).mean() / 2),
        robust_accuracy_gap=_largest_gap(_robust_accuracies, reference, candidate, inputs),
        detector_auc_gap=_largest_gap(_detector_aucs, reference, candidate, inputs),
    )


def _largest_gap(
    measure: Callable[[RuntimeAnswers, ParityInputs], npt.NDArray[np.float64]],
    reference: RuntimeAnswers,
    candidate: RuntimeAnswers,
    inputs: ParityInputs,
) -> float:
    return float(np.abs(measure(candidate, inputs) - measure(reference, inputs)).max())


def _robust_accuracies(answers: RuntimeAnswers, inputs: ParityInputs) -> npt.NDArray[np.float64]:
    truth = inputs.clean[1]
    right = answers.clean.logits.argmax(axis=1) == truth
    return np.array([(right & (f.logits.argmax(axis=1) == truth)).mean() for f in answers.attacked.values()])


def _detector_aucs(answers: RuntimeAnswers, inputs: ParityInputs) -> npt.NDArray[np.float64]:
    from sklearn.metrics import roc_auc_score  # the gate and the console, which only read a parity, load faster

    detector = AdversarialDetector.fit(
        answers.training, [answers.training], [answers.training_attacked], read=inputs.read, probed=inputs.probed
    )
    clean = detector.score(answers.clean)
    scores = [detector.score(forward) for forward in answers.attacked.values()]
    truth = np.repeat([0, 1], len(clean))
    return np.array([roc_auc_score(truth, np.concatenate([clean, attacked])) for attacked in scores])
