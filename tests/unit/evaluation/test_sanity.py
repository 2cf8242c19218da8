import numpy as np

from buckler.evaluation.robustness import cell
from buckler.evaluation.sanity import check_cells, check_model
from tests.unit.evaluation.test_robustness import CLEAN, TRUTH, outcome
from tests.unit.toy import Brightness

PICTURES = np.full((3, 6, 6, 3), 0.5, np.float32)
LABELS = np.array([0, 1, 0])


class Probabilities(Brightness):
    def logits(self, images):
        share = 1 / (1 + np.exp(-super().logits(images)[:, 1]))
        return np.stack([1 - share, share], axis=1)


class Random(Brightness):
    generator = np.random.default_rng(0)

    def logits(self, images):
        return super().logits(images) + self.generator.normal(size=(len(images), 2))


class Masked(Brightness):
    def loss_gradient(self, images, labels, loss="cross_entropy"):
        return np.zeros_like(images), self.logits(images)


def failed(checks):
    return {check.name for check in checks if not check.passed}


def test_a_plain_model_passes():
    assert failed(check_model(Brightness(), PICTURES, LABELS)) == set()


def test_probabilities_given_for_logits_are_caught():
    assert failed(check_model(Probabilities(), PICTURES, LABELS)) == {"logits_not_probabilities"}


def test_a_random_forward_pass_is_caught():
    assert failed(check_model(Random(), PICTURES, LABELS)) == {"deterministic_forward"}


def test_masked_gradients_are_caught():
    assert failed(check_model(Masked(), PICTURES, LABELS)) == {"gradients_not_zero"}


def cells(**guesses):
    rows = []
    for name, answer in guesses.items():
        attack, _, epsilon = name.partition("_")
        facts = {"labels": ("b", "m"), "malignant": (), "seed": 0, "crafted_in": "a", "scored_in": "a"}
        rows.append(cell(outcome(answer, int(epsilon), attack), CLEAN, TRUTH, **facts))
    return rows


WEAK, STRONG = [0, 0, 1, 1], [1, 1, 0, 0]


def test_noise_that_beats_fgsm_is_caught():
    assert failed(check_cells(cells(fgsm_8=WEAK, noise_8=STRONG))) == {"noise_not_stronger_than_fgsm_at_8"}
    assert failed(check_cells(cells(fgsm_8=STRONG, noise_8=WEAK))) == set()


def test_an_attack_that_may_be_weaker_than_fgsm_is_not_held_to_it():
    assert check_cells(cells(fgsm_8=STRONG, fgv_8=WEAK)) == []


def test_pgd_weaker_than_fgsm_at_a_smaller_radius_is_caught():
    assert failed(check_cells(cells(fgsm_1=STRONG, fgsm_4=WEAK, pgd_4=WEAK))) == {"pgd_at_least_fgsm_at_4"}
    assert failed(check_cells(cells(fgsm_1=STRONG, fgsm_4=WEAK, pgd_4=STRONG))) == set()
