"""Attacks that know the detector, on a real small network: their objective uses the detector's own score."""

from dataclasses import replace

import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.evaluation.evasion import CLEAR, OBJECTIVES, Evader, accepted_lead
from buckler.modality.base import Radius
from tests import screenings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def screening(tiny_classifier, tiny_pictures):
    return screenings.fit(tiny_classifier, *tiny_pictures)


def line_at(screening, classifier, images, share):
    scores = screening.detector.score(classifier.forward(images))
    return replace(screening, threshold=float(np.quantile(scores, share)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_logits_give_the_margin_by_which_network_and_detector_are_evaded(
    objective, tiny_network, tiny_classifier, tiny_pictures, screening
):
    images, labels = tiny_pictures
    drawn = line_at(screening, tiny_classifier, images, 0.5)
    _, logits = Evader(tiny_network, drawn, objective, batch_size=4).loss_gradient(images, labels)
    forward = tiny_classifier.forward(images)
    margin = forward.logits[np.arange(11), 1 - labels] - forward.logits[np.arange(11), labels]
    expected = np.minimum(margin, drawn.threshold - drawn.detector.score(forward)) - CLEAR
    np.testing.assert_allclose(logits[np.arange(11), 1 - labels], expected, rtol=1e-3, atol=1e-3)
    assert not logits[np.arange(11), labels].any()


def test_a_lead_asks_for_an_answer_that_is_wrong_by_more(tiny_network, tiny_classifier, tiny_pictures, screening):
    images, labels = tiny_pictures
    blind = replace(screening, threshold=1e9)
    evader = Evader(tiny_network, blind, "joint", batch_size=4, lead=1.5)
    leading = PGD(steps=20)(evader, Batch(images, labels), Radius(32 / 255))
    just = PGD(steps=20)(Evader(tiny_network, blind, "joint", batch_size=4), Batch(images, labels), Radius(32 / 255))

    def led(pictures):
        logits = tiny_classifier.logits(pictures)
        return (logits[np.arange(11), 1 - labels] - logits[np.arange(11), labels] > 1.5).mean()

    assert led(leading) > led(just) + 0.3


@pytest.mark.parametrize("limits", [{"min_confidence": 0.8}, {"danger_limit": 0.2}])
def test_an_answer_with_that_lead_is_just_sure_enough(screening, limits):
    wants = replace(screening, temperature=2.0, **{"min_confidence": 0.0, "danger_limit": 1.0} | limits)
    lead = accepted_lead(wants)
    assert wants.probabilities(np.array([[lead, 0.0]], np.float32))[0] == pytest.approx([0.8, 0.2])


def test_without_a_limit_that_lets_answers_pass_there_is_no_lead_or_the_largest(screening):
    passing = replace(screening, min_confidence=0.0, danger_limit=1.0)
    assert accepted_lead(passing) == 0
    assert accepted_lead(replace(passing, dangerous=(), danger_limit=None)) == 0
    assert accepted_lead(replace(passing, danger_limit=None)) > 10


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_small_step_along_the_gradient_raises_the_objective(
    objective, tiny_network, tiny_classifier, tiny_pictures, screening
):
    images, labels = tiny_pictures
    drawn = line_at(screening, tiny_classifier, images, 0.5)
    evader = Evader(tiny_network, drawn, objective, batch_size=4)
    gradient, _ = evader.loss_gradient(images, labels)
    assert np.abs(gradient).max(axis=(1, 2, 3)).all()


def test_it_evades_the_detector_that_flags_an_attack_without_knowledge_of_it(
    tiny_network, tiny_classifier, tiny_pictures, screening
):
    images, labels = tiny_pictures
    epsilon = 32 / 255
    blunt = PGD(steps=20, early_exit=False)(tiny_classifier, Batch(images, labels), Radius(epsilon))
    drawn = line_at(screening, tiny_classifier, blunt, 0.1)  # most pictures of the attack without knowledge are flagged

    def evaded(pictures):
        forward = tiny_classifier.forward(pictures)
        scores, _ = drawn.flags(pictures, forward)
        return ((forward.logits.argmax(axis=1) != labels) & (scores <= drawn.threshold)).mean()

    evader = Evader(tiny_network, drawn, "selective", batch_size=4)
    assert evaded(PGD(steps=20)(evader, Batch(images, labels), Radius(epsilon))) > evaded(blunt) + 0.3
