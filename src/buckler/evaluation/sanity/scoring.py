"""Checks of the scorer and its inputs: the reference, the clean answers, the attacked pictures as files."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from buckler.attacks.ball import BALLS
from buckler.evaluation.sanity.base import Check, CheckedEvaluation, Observation, tolerated
from buckler.evaluation.suite import AttackOutcome, AttackSpec
from buckler.models.forward import probabilities

# Mean distance (total variation) between the probabilities of two runtimes.
MAX_DRIFT = 0.05


def _agrees_with_reference(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    images = evaluation.images[evaluation.rows]
    scored, expected = (probabilities(model.logits(images)) for model in (evaluation.scorer, evaluation.reference))
    drift = float(np.abs(scored - expected).sum(axis=1).mean() / 2)
    differ = int((scored.argmax(axis=1) != expected.argmax(axis=1)).sum())
    yield Observation(
        differ <= tolerated(len(images)) and drift <= MAX_DRIFT,
        f"on {differ} of {len(images)} clean pictures the labels differ, probabilities by {drift:.4f} in the mean",
    )


def _clean_as_reported(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    rows = evaluation.rows
    differ = int((evaluation.right(evaluation.images[rows], rows) != evaluation.clean[rows]).sum())
    yield Observation(
        differ <= tolerated(len(rows)),
        f"the scorer's answers to {differ} of {len(rows)} clean pictures are not those that the report counts",
    )


def _survives_a_file(evaluation: CheckedEvaluation) -> Iterator[Observation]:
    """Attack a few inputs with every line, write them to files, read them, and measure their perturbation."""
    rows, modality = evaluation.few, evaluation.modality
    origin, specs, lost, widest = evaluation.images[rows], _lines(evaluation.outcomes), [], 0.0
    for spec in specs:
        crafted = evaluation.attacked(evaluation.crafter, spec, rows)
        read = np.stack([modality.load(modality.to_file(one), one.shape) for one in crafted])
        size = BALLS[spec.attack.norm].size((read.astype(np.float64) - origin) * modality.unit.scale).max()
        widest = max(widest, float(size) / spec.radii[0].number)
        if not np.array_equal(read, crafted):
            lost.append(spec.attack.name)
    yield Observation(
        not lost and widest <= 1 + 1e-3,
        f"{len(specs)} lines on {len(rows)} {modality.many}, written as files and read: at most {widest:.4f} of the "
        f"radius, changed by the file: {', '.join(lost) or 'none'}",
    )


def _lines(outcomes: Iterable[AttackOutcome]) -> list[AttackSpec]:
    """Return the suite that gave ``outcomes``, each line at its smallest radius."""
    return list({replace(outcome.spec, radii=outcome.spec.radii[:1]): None for outcome in outcomes})


REFERENCE = Check(
    "scorer_agrees_with_reference",
    "Labels and probabilities of the runtime that serves are compared with the float32 reference.",
    "The runtime answers differently from the model that was trained.",
    _agrees_with_reference,
)
CLEAN = Check(
    "clean_answers_as_reported",
    "The scorer's clean answers are compared with those that the other reports count.",
    "The clean accuracy is not the scorer's.",
    _clean_as_reported,
)
FILE = Check(
    "epsilon_respected_in_a_file",
    "Attacked records are written to files, read again and measured.",
    "Perturbations leave the ball, or do not survive being written to a file.",
    _survives_a_file,
)
