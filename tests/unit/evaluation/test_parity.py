import dataclasses

import numpy as np
import pytest

from buckler.evaluation.parity import ParityInputs, RuntimeAnswers, compare
from buckler.models.forward import Forward

COUNT, WIDTH = 40, 2944
TRUTH = np.arange(COUNT) % 2
PIXELS = np.zeros((COUNT, 2, 2, 3), np.float32)
COLUMNS = {"read": np.arange(384, WIDTH), "probed": np.arange(384, 1920)}
INPUTS = ParityInputs(
    training=PIXELS, training_attacked=PIXELS, clean=(PIXELS, TRUTH), attacked={1: PIXELS, 2: PIXELS}, **COLUMNS
)


def logits(right):
    """Two-class logits, sure by nine to one, right where ``right`` says so."""
    label = np.where(right, TRUTH, 1 - TRUTH)
    return (np.eye(2, dtype=np.float32)[label] * np.log(9)).astype(np.float32)


def features(seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (COUNT, WIDTH)).astype(np.float32)


def answers(robust=(20, 10), shift=3.0):
    attacked = {
        radius: Forward(logits(np.arange(COUNT) < count), features(radius, shift))
        for radius, count in zip((1, 2), robust, strict=True)
    }
    right = logits(np.ones(COUNT, bool))
    return RuntimeAnswers(
        Forward(right, features(7)), Forward(right, features(6, shift)), Forward(right, features(8)), attacked
    )


def test_a_runtime_is_at_parity_with_itself():
    parity = compare(answers(), answers(), INPUTS)
    assert dataclasses.astuple(parity) == (COUNT, 1.0, 0.0, 0.0, 0.0)


def test_another_label_and_another_probability_are_counted():
    reference, candidate = answers(), answers()
    changed = candidate.clean.logits.copy()
    changed[0] = changed[0, ::-1]  # nine to one becomes one to nine: 0.8 apart
    changed[1] *= np.log(4) / np.log(9)  # four to one, the same label: 0.1 apart
    candidate = dataclasses.replace(candidate, clean=dataclasses.replace(candidate.clean, logits=changed))
    parity = compare(reference, candidate, INPUTS)
    assert parity.label_agreement == pytest.approx(1 - 1 / COUNT)
    assert parity.probability_gap == pytest.approx((0.8 + 0.1) / COUNT, rel=1e-4)


@pytest.mark.parametrize("robust", [(20, 14), (20, 6)])
def test_the_robust_accuracy_gap_is_the_largest_over_the_radii_in_either_direction(robust):
    assert compare(answers(), answers(robust), INPUTS).robust_accuracy_gap == pytest.approx(4 / COUNT)


def test_a_weaker_detector_in_the_other_runtime_is_a_gap():
    assert compare(answers(shift=3.0), answers(shift=0.0), INPUTS).detector_auc_gap > 0.2
