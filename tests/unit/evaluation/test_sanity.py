"""Each check on a model, or an evaluation, built to fail it; and on honest ones, which fail none."""

import numpy as np
import pytest

from buckler.attacks.adaptive import Expectation
from buckler.attacks.autopgd import APGDMargin
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.attacks.l2 import PGDL2
from buckler.attacks.noise import Noise
from buckler.attacks.square import Square
from buckler.attacks.table import build
from buckler.evaluation.convergence import Convergence
from buckler.evaluation.crafter_and_scorer import RANDOM_DRAWS
from buckler.evaluation.sanity import doubt
from buckler.evaluation.suite import AttackOutcome, AttackSpec, run_suite
from buckler.models.forward import Forward
from buckler.radius import StatedRadius
from tests.forms import PICTURE
from tests.unit import broken
from tests.unit.linear import Linear

pytestmark = pytest.mark.slow

SUITE = (
    AttackSpec(FGSM(), (1, 2, 4)),
    AttackSpec(PGD(steps=10), (2, 4)),
    AttackSpec(Noise(), (4,)),
    AttackSpec(Square(queries=20), (2,)),
    AttackSpec(PGDL2(steps=3), (20,)),
)
RIGHT, WRONG = True, False


class Plain(Linear):
    """The linear model with what scoring asks for."""

    def forward(self, images):
        return Forward(self.logits(images), np.zeros((len(images), 1), np.float32))


class Probabilities(Plain):
    def logits(self, images):
        shifted = np.exp(super().logits(images))
        return shifted / shifted.sum(axis=1, keepdims=True)


class Random(Plain):
    def __init__(self, classes):
        super().__init__(classes)
        self.reseed(0)

    def reseed(self, seed):
        self.generator = np.random.default_rng(seed)

    def logits(self, images):
        return super().logits(images) + self.generator.normal(0, 0.01, (len(images), 2)).astype(np.float32)


class Masked(Plain):
    """Right answers, no gradient."""

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        return np.zeros_like(images), self.logits(images)


class Lying(Plain):
    """Right answers, a gradient that leads anywhere."""

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        gradient, logits = super().loss_gradient(images, labels, loss)
        return np.random.default_rng(1).permuted(gradient.reshape(len(images), -1), axis=1).reshape(
            images.shape
        ), logits


class Confident(Plain):
    """Logits so far apart that the cross-entropy has no gradient left."""

    def __init__(self, classes):
        super().__init__(classes)
        self.weights, self.offsets = self.weights * 1000, self.offsets * 1000


class Ladder(Plain):
    """Class 1 while any pixel is bright: the gradient shows one of them at a time, a step takes one rung."""

    def logits(self, images):
        brightest = images.max(axis=(1, 2, 3), initial=0)
        return np.stack([np.zeros_like(brightest), 100 * (brightest - 0.5)], axis=1).astype(np.float32)

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        flat = images.reshape(len(images), 108)
        gradient = np.zeros_like(flat)
        gradient[np.arange(len(flat)), flat.argmax(axis=1)] = 1 - 2 * labels
        return gradient.reshape(images.shape), self.logits(images)


def pictures(model, count=48, seed=3):
    """8-bit noise pictures and the labels that ``model`` gives them."""
    levels = np.random.default_rng(seed).integers(77, 179, (count, 6, 6, 3))
    images = (levels / 255).astype(np.float32)
    return images, model.logits(images).argmax(axis=1)


def checks_of(model, images, labels, suite=SUITE, *, crafter=None, clean=None, **options):
    crafter = crafter or model
    outcomes = run_suite(crafter, model, images, labels, suite, seed=0)
    clean = np.ones(len(labels), bool) if clean is None else clean
    return doubt(crafter, model, images, labels, outcomes=outcomes, clean=clean, seed=0, modality=PICTURE, **options)


def failed(checks):
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("classes", [2, 7])
def test_an_honest_evaluation_passes_every_check(classes):
    model = Plain(classes)
    checks = checks_of(model, *pictures(model), surrogate=Plain(classes, seed=5))
    assert failed(checks) == set()
    assert {check.name for check in checks} == {
        "logits_not_probabilities",
        "deterministic_forward",
        "gradients_not_zero",
        "gradients_point_uphill",
        "pgd_at_least_fgsm_at_2/255",
        "pgd_at_least_fgsm_at_4/255",
        "noise_not_stronger_than_fgsm_at_4/255",
        "larger_budget_changes_little",
        "chance_at_128/255",
        "noise_not_stronger_than_white_box_at_4/255",
        "square_not_stronger_than_white_box_at_2/255",
        "transfer_not_stronger_than_direct",
        "scorer_agrees_with_reference",
        "clean_answers_as_reported",
        "epsilon_respected_in_a_file",
    }


def test_a_suite_without_a_search_by_scores_gets_a_short_one():
    model = Plain(2)
    checks = checks_of(model, *pictures(model), suite=[AttackSpec(FGSM(), (2,))])
    assert failed(checks) == set()
    assert "square_not_stronger_than_white_box_at_2/255" in {check.name for check in checks}


def test_an_evaluation_without_a_white_box_attack_is_refused():
    model = Plain(2)
    with pytest.raises(ValueError, match="at least one white-box attack"):
        checks_of(model, *pictures(model), suite=[AttackSpec(Noise(), (2,))])


def test_probabilities_given_for_logits_are_caught():
    model = Probabilities(2)
    assert "logits_not_probabilities" in failed(checks_of(model, *pictures(model)))


def test_randomness_that_is_not_declared_is_caught():
    assert "deterministic_forward" in failed(checks_of(Random(2), *pictures(Plain(2))))


@pytest.mark.parametrize(("draws", "enough"), [(1, False), (RANDOM_DRAWS - 1, False), (RANDOM_DRAWS, True)])
def test_declared_randomness_must_be_attacked_through_the_expectation_of_enough_draws(draws, enough):
    model = Random(2)
    crafter = Expectation(model, draws) if draws > 1 else model
    checks = checks_of(model, *pictures(Plain(2)), crafter=crafter, suite=SUITE[:2], randomised=True)
    found = {check.name: check.passed for check in checks}
    assert found["attacked_through_expectation"] is enough
    assert "deterministic_forward" not in found


def test_masked_gradients_are_caught_by_attacks_without_gradients():
    model = Masked(2)
    assert failed(checks_of(model, *pictures(model), suite=SUITE[:2], surrogate=Plain(2))) >= {
        "gradients_not_zero",
        "gradients_point_uphill",
        "square_not_stronger_than_white_box_at_4/255",
        "transfer_not_stronger_than_direct",
    }


def test_saturation_is_caught():
    model = Confident(2)
    assert failed(checks_of(model, *pictures(model), suite=SUITE[:2])) >= {"gradients_not_zero"}


def test_gradients_that_lead_nowhere_are_caught():
    model = Lying(2)
    found = failed(checks_of(model, *pictures(model), suite=SUITE[:2]))
    assert "gradients_point_uphill" in found
    assert "gradients_not_zero" not in found


def test_a_model_that_no_radius_breaks_is_caught():
    model = Masked(2)
    # One picture repeated, far from the boundary: the random start of the attack alone does not flip it.
    images, labels = pictures(model, 200)
    far = np.argsort(-model.distances(images, labels))
    chosen = np.concatenate([far[labels[far] == label][:2] for label in (0, 1)])
    easy = np.clip(np.rint((0.5 + 8 * (images[chosen] - 0.5)) * 255) / 255, 0, 1).astype(np.float32)
    assert "chance_at_128/255" in failed(checks_of(model, easy, labels[chosen], suite=SUITE[:2], few=2))


def test_a_budget_that_is_too_small_is_caught():
    model, epsilon = Ladder(2), 8
    levels = np.full((6, 108), 100)
    levels[:, :12] = 132 + np.arange(12) % 3
    images, labels = (levels.reshape(6, 6, 6, 3) / 255).astype(np.float32), np.ones(6, int)
    for steps, enough in ((6, False), (100, True)):
        found = failed(checks_of(model, images, labels, suite=[AttackSpec(APGDMargin(steps=steps), (epsilon,))]))
        assert ("larger_budget_changes_little" not in found) is enough


def outcomes_of(model, images, labels, **held):
    """Outcomes as if attack ``a_r`` at radius r had left the pictures right that it is given."""
    logits = model.logits(images)
    for name, right in held.items():
        attack, _, radius = name.partition("_")
        answer = np.where(np.full(len(labels), right)[:, None], logits, -logits)
        yield AttackOutcome(
            AttackSpec(build(attack), (int(radius),)), StatedRadius(radius), answer, np.zeros((len(labels), 1)), 1.0
        )


@pytest.mark.parametrize(
    ("held", "caught"),
    [
        ({"fgsm_4": RIGHT, "noise_4": WRONG}, "noise_not_stronger_than_fgsm_at_4/255"),
        ({"fgsm_1": WRONG, "fgsm_4": RIGHT, "pgd_4": RIGHT}, "pgd_at_least_fgsm_at_4/255"),
        ({"pgd_4": RIGHT, "square_4": WRONG}, "square_not_stronger_than_white_box_at_4/255"),
    ],
)
def test_a_weak_attack_that_beats_a_strong_one_is_caught(held, caught):
    model = Plain(2)
    images, labels = pictures(model)
    for results, is_caught in ((held, True), (dict.fromkeys(held, WRONG), False)):
        outcomes = list(outcomes_of(model, images, labels, **results))
        checks = doubt(
            model, model, images, labels, outcomes=outcomes, clean=np.ones(48, bool), seed=0, modality=PICTURE
        )
        assert (caught in failed(checks)) is is_caught


def test_an_attack_that_may_be_weaker_than_fgsm_is_not_compared_with_it():
    model = Plain(2)
    images, labels = pictures(model)
    outcomes = list(outcomes_of(model, images, labels, fgsm_4=WRONG, fgv_4=RIGHT))
    checks = doubt(model, model, images, labels, outcomes=outcomes, clean=np.ones(48, bool), seed=0, modality=PICTURE)
    assert not any(check.name.startswith("fgv") for check in checks)


def test_one_picture_is_within_the_tolerance_and_many_are_not():
    model = Plain(2)
    images, labels = pictures(model)
    for lost, passed in ((1, True), (5, False)):
        noise = np.arange(48) >= lost
        outcomes = list(outcomes_of(model, images, labels, fgsm_4=RIGHT, noise_4=noise))
        checks = doubt(
            model, model, images, labels, outcomes=outcomes, clean=np.ones(48, bool), seed=0, modality=PICTURE
        )
        assert ("noise_not_stronger_than_fgsm_at_4/255" not in failed(checks)) is passed


@pytest.mark.parametrize("share", [1.0, 0.1], ids=["other labels", "other probabilities"])
def test_a_runtime_that_answers_differently_from_the_reference_is_caught(share):
    model, other = Plain(2), Plain(2, seed=0 if share < 1 else 1)
    other.weights, other.offsets = share * other.weights, share * other.offsets
    assert failed(checks_of(model, *pictures(model), reference=other)) == {"scorer_agrees_with_reference"}


def test_clean_answers_that_differ_from_the_scorers_are_caught():
    model = Plain(2)
    clean = np.arange(48) % 8 > 0
    assert failed(checks_of(model, *pictures(model), clean=clean)) == {"clean_answers_as_reported"}


def test_pictures_that_change_when_written_to_a_file_are_caught():
    model = Plain(2)
    between = pictures(model)[0] + np.float32(0.4 / 255)
    assert failed(checks_of(model, between, model.logits(between).argmax(axis=1))) == {"epsilon_respected_in_a_file"}


DEFENCES = {
    "saturated": {"behind": broken.saturated},
    "noise": {"front": lambda: broken.Noise(0.05)},
    "jpeg": {"front": lambda: broken.Jpeg(80)},
    "bit_depth": {"front": lambda: broken.BitDepth(3)},
    "median": {"front": lambda: broken.Median()},
}
BELIEVED = [AttackSpec(FGSM(), (4, 12)), AttackSpec(PGD(steps=10), (12,)), AttackSpec(Noise(), (12,))]


def doubts_about(classifier, images, labels):
    clean = classifier.logits(images).argmax(axis=1) == labels
    outcomes = run_suite(classifier, classifier, images, labels, BELIEVED, seed=0)
    return doubt(
        classifier,
        classifier,
        images,
        labels,
        outcomes=outcomes,
        clean=clean,
        seed=0,
        modality=PICTURE,
        subset=24,
        few=2,
    )


def test_a_trained_network_without_a_defence_passes_every_check(fragile):
    classifier, _, images, labels = fragile
    assert failed(doubts_about(classifier, images, labels)) == set()


@pytest.mark.parametrize("defence", DEFENCES)
def test_a_known_broken_defence_is_caught(defence, fragile):
    from buckler.models.classifier import Classifier

    _, network, images, labels = fragile
    layers = {place: layer() for place, layer in DEFENCES[defence].items()}
    classifier = Classifier(broken.defended(network, **layers), batch_size=32)
    caught = failed(doubts_about(classifier, images, labels))
    assert caught & {"deterministic_forward"} if defence == "noise" else caught >= {"gradients_not_zero"}


def test_a_radius_at_which_only_weak_attacks_were_tried_is_caught():
    def curve(suite):
        return Convergence("pgd", StatedRadius(4), 64, [0, 1, 2], [0.0, 0.4, 0.9], suite, converged=False)

    model = Plain(2)
    images, labels = pictures(model)
    outcomes = list(outcomes_of(model, images, labels, fgsm_4=WRONG))
    facts = {"outcomes": outcomes, "clean": np.ones(48, bool), "seed": 0, "modality": PICTURE}
    weak, strong = doubt(model, model, images, labels, curves=[curve(0.5), curve(0.86)], **facts)[-2:]
    assert (weak.name, weak.passed, strong.passed) == ("many_steps_find_little_new_at_4/255", False, True)
    assert "2 steps of pgd flip 0.900 of 64 pictures, the suite up to 4/255 0.500" in weak.detail
