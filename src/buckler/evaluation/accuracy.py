"""Accuracy on clean pictures, and calibration of the probabilities."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score, roc_curve

from buckler import findings
from buckler.evaluation.statistics import auc_interval, mean_of_rates, share_of, wilson
from buckler.measurements.results import ClassRow, CleanEvaluation, FindingRow, Interval, Rate, ReliabilityBin
from buckler.modality.base import Labels
from buckler.models.forward import Logits, probabilities


def evaluate(
    logits: Logits, truth: Labels, *, labels: Sequence[str], dangerous: Sequence[str], bins: int = 10
) -> CleanEvaluation:
    """Return the clean performance of ``logits`` (n, classes) for the true class indices ``truth`` (n,).

    Args:
        logits: Of clean pictures.
        truth: Indices into ``labels``.
        labels: Class names in the order of the logits.
        dangerous: Those of ``labels`` that must not be missed; may be empty.
        bins: Equal-width confidence bins of the calibration error.
    """
    guesses, confidence = logits.argmax(axis=1), probabilities(logits)
    sure, right = confidence.max(axis=1), guesses == truth
    auc, interval = _roc_auc(confidence, truth, labels, dangerous)
    return CleanEvaluation(
        clean_accuracy=wilson(int(right.sum()), len(truth)),
        balanced_accuracy=balanced_accuracy(guesses, truth),
        roc_auc=auc,
        roc_auc_interval=interval,
        calibration_error=calibration_error(sure, right, bins),
        malignant_recall=danger_recall(guesses, truth, labels, dangerous),
        classes=_class_rows(guesses, truth, labels),
        confusion=confusion(guesses, truth, len(labels)),
        reliability=reliability(sure, right, bins),
    )


def confusion(guesses: Labels, truth: Labels, classes: int) -> list[list[int]]:
    """Return the confusion matrix: rows true, columns predicted."""
    matrix: list[list[int]] = confusion_matrix(truth, guesses, labels=range(classes)).tolist()
    return matrix


def balanced_accuracy(guesses: Labels, truth: Labels) -> Rate:
    """Return the mean, over the classes that occur, of the share of their pictures that is right.

    Source: Brodersen et al., "The balanced accuracy and its posterior distribution", 2010.
    """
    found = (share_of(guesses[truth == place] == place) for place in np.unique(truth))
    return mean_of_rates([rate for rate in found if rate])


def finding_rows(logits: Logits, truth: Labels, labels: Sequence[str], names: Sequence[str]) -> dict[str, FindingRow]:
    """Return the clean performance for each of the findings ``names``, of which ``labels`` name sets."""
    guesses, confidence = logits.argmax(axis=1), probabilities(logits)
    rows = {}
    for name in names:
        positive = dangerous_classes(labels, findings.with_any(labels, [name]))
        score, there = confidence[:, positive].sum(axis=1), positive[truth]
        both = there.any() and not there.all()
        rows[name] = FindingRow(
            float(roc_auc_score(there, score)) if both else None,
            auc_interval(score, there) if both else None,
            sensitivity=share_of(positive[guesses[there]]),
            specificity=share_of(~positive[guesses[~there]]),
        )
    return rows


def danger_recall(guesses: Labels, truth: Labels, labels: Sequence[str], dangerous: Sequence[str]) -> Rate | None:
    """Return the share of dangerous pictures given a dangerous label; None if there are none."""
    danger = dangerous_classes(labels, dangerous)
    return share_of(danger[guesses[danger[truth]]])


def dangerous_classes(labels: Sequence[str], dangerous: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return for each of ``labels`` whether it is one of ``dangerous``, ``(classes,)``."""
    return np.array([label in dangerous for label in labels])


def reliability(confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], bins: int) -> list[ReliabilityBin]:
    """Return the non-empty of ``bins`` equal-width bins over confidence 0..1.

    Source: Guo et al., "On calibration of modern neural networks", arXiv 1706.04599.
    """
    return [
        ReliabilityBin(float(confidence[here].mean()), rate.value, rate.interval, rate.pictures)
        for _, here in bins_of(confidence, bins)
        if (rate := share_of(right[here]))
    ]


def bins_of(confidence: npt.NDArray[np.float32], bins: int) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Yield the places of the non-empty of ``bins`` equal-width bins over confidence 0..1, and who is in each."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    for place in np.unique(places):
        yield int(place), places == place


def calibration_error(confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], bins: int) -> float:
    """Return the expected calibration error: the gap between confidence and accuracy, mean over the pictures."""
    table = reliability(confidence, right, bins)
    return sum(abs(b.confidence - b.accuracy) * b.pictures for b in table) / len(right)


def roc_points(
    logits: Logits, truth: Labels, labels: Sequence[str], dangerous: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return false- and true-positive rates of the dangerous labels (without any: of the last class)."""
    score, target = _one_against_rest(probabilities(logits), truth, labels, dangerous)
    false_positive, true_positive, _ = roc_curve(target, score)
    return false_positive, true_positive


def _roc_auc(
    confidence: npt.NDArray[np.float32], truth: Labels, labels: Sequence[str], dangerous: Sequence[str]
) -> tuple[float, Interval | None]:
    if len(labels) > 2 and not dangerous_classes(labels, dangerous).any():
        return float(roc_auc_score(truth, confidence, multi_class="ovr", labels=range(len(labels)))), None
    score, target = _one_against_rest(confidence, truth, labels, dangerous)
    return float(roc_auc_score(target, score)), auc_interval(score, target)


def _one_against_rest(
    confidence: npt.NDArray[np.float32], truth: Labels, labels: Sequence[str], dangerous: Sequence[str]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    positive = dangerous_classes(labels, dangerous)
    if not positive.any():
        positive[-1] = True
    return confidence[:, positive].sum(axis=1), positive[truth]


def _class_rows(guesses: Labels, truth: Labels, labels: Sequence[str]) -> dict[str, ClassRow]:
    columns: Any = precision_recall_fscore_support(truth, guesses, labels=range(len(labels)), zero_division=0)
    return {
        label: _class_row(guesses == place, truth == place, *map(float, row))
        for place, (label, row) in enumerate(zip(labels, zip(*columns, strict=True), strict=True))
    }


def _class_row(
    guessed: npt.NDArray[np.bool_],
    true: npt.NDArray[np.bool_],
    precision: float,
    recall: float,
    f1: float,
    support: float,
) -> ClassRow:
    precise, recalled = share_of(true[guessed]), share_of(guessed[true])
    return ClassRow(
        precision,
        precise.interval if precise else None,
        recall,
        recalled.interval if recalled else None,
        f1,
        int(support),
    )
