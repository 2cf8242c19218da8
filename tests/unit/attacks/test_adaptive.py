import numpy as np
import pytest

from buckler.attacks.adaptive import Expectation, StraightThrough, Unsaturated, logit_scale
from buckler.attacks.ball import lengths, on_grid
from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.attacks.table import ATTACKS
from buckler.modality.base import Radius
from buckler.models.backend import tf
from buckler.models.classifier import Classifier
from buckler.models.forward import probabilities
from tests.unit import broken
from tests.unit.attacks.settings import with_settings
from tests.unit.toy import Brightness

pytestmark = pytest.mark.slow

GREY = np.full((3, 6, 6, 3), 128 / 255, np.float32)
LABELS = np.array([1, 1, 0])


class Shaky(Brightness):
    """Brightness with a slope drawn anew for each pass."""

    def __init__(self, spread=1.0):
        super().__init__(middle=0.4)
        self.spread, self.mean = spread, self.slope
        self.reseed(0)

    def reseed(self, seed):
        self.generator = np.random.default_rng(seed)

    def logits(self, images):
        self.slope = self.mean + self.spread * self.generator.standard_normal()
        return super().logits(images)


def quantise(images):
    return np.rint(images * 3).astype(np.float32) / np.float32(3)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "logit"])
def test_the_expectation_of_a_model_that_draws_nothing_is_the_model(loss):
    model = Brightness()
    expected, logits = model.loss_gradient(GREY, LABELS, loss)
    gradient, ours = Expectation(model, 5).loss_gradient(GREY, LABELS, loss)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(probabilities(ours), probabilities(logits), rtol=1e-5)


def test_more_draws_approximate_the_mean_gradient_better():
    truth = Shaky(spread=0.0).loss_gradient(GREY, LABELS, "margin")[0]

    def error(draws):
        errors = [Expectation(Shaky(), draws, seed=s).loss_gradient(GREY, LABELS, "margin")[0] for s in range(20)]
        return np.abs(np.array(errors) - truth).mean()

    assert error(50) < error(5) / 2 < error(1) / 3


def test_the_expectation_answers_with_the_mean_probabilities():
    model = Shaky(spread=30.0)
    answers = [probabilities(model.logits(GREY)) for _ in range(7)]
    np.testing.assert_allclose(probabilities(Expectation(Shaky(30.0), 7).logits(GREY)), np.mean(answers, 0), rtol=1e-4)


def test_the_same_seed_gives_the_same_draws_and_each_call_new_ones():
    model = Expectation(Shaky(), 3, seed=4)
    first, second = model.logits(GREY), model.logits(GREY)
    assert not np.array_equal(first, second)
    model.reseed(4)
    np.testing.assert_array_equal(model.logits(GREY), first)
    np.testing.assert_array_equal(Expectation(Shaky(), 3, seed=4).logits(GREY), first)


def test_an_expectation_needs_a_draw():
    with pytest.raises(ValueError, match="at least one draw, got 0"):
        Expectation(Brightness(), 0)


def test_straight_through_has_the_logits_of_the_defended_model_and_the_gradient_of_the_bare_one():
    images = np.random.default_rng(0).uniform(0, 1, GREY.shape).astype(np.float32)
    model = StraightThrough(Brightness(), quantise)
    gradient, logits = model.loss_gradient(images, LABELS)
    bare, expected = Brightness().loss_gradient(quantise(images), LABELS)
    np.testing.assert_array_equal(gradient, bare)
    np.testing.assert_array_equal(logits, expected)
    np.testing.assert_array_equal(model.logits(images), expected)


def test_the_surrogates_derivative_replaces_the_preprocessings():
    model = StraightThrough(Brightness(), lambda images: images**2, lambda pixels: tf.square(pixels))
    images = np.random.default_rng(0).uniform(0.2, 0.8, GREY.shape).astype(np.float32)
    outer, _ = Brightness().loss_gradient(images**2, LABELS)
    np.testing.assert_allclose(model.loss_gradient(images, LABELS)[0], 2 * images * outer, rtol=1e-5)


def test_unsaturated_has_a_gradient_where_the_softmax_has_none():
    certain = Brightness(middle=0.4, slope=1e4)
    scale = logit_scale(certain, GREY)
    flat, _ = certain.loss_gradient(GREY[:2], LABELS[:2])
    gradient, logits = Unsaturated(certain, scale=scale).loss_gradient(GREY[:2], LABELS[:2])
    assert not flat.any()
    assert (gradient < 0).all()
    assert np.abs(logits).max() == pytest.approx(1)
    assert (logits.argmax(axis=1) == certain.logits(GREY[:2]).argmax(axis=1)).all()


def test_the_scale_of_equal_logits_is_positive():
    assert logit_scale(Brightness(slope=0.0), GREY) == 1
    with pytest.raises(ValueError, match="positive scale, got 0"):
        Unsaturated(Brightness(), scale=0.0)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "wrapped",
    [
        Expectation(Shaky(), 2),
        StraightThrough(Brightness(middle=0.3), quantise),
        Unsaturated(Brightness(middle=0.45, slope=100.0), scale=5.0),
    ],
    ids=["expectation", "straight_through", "unsaturated"],
)
def test_every_attack_of_the_table_runs_on_every_wrapper(wrapped, attack):
    epsilon = 8 / 255
    change = with_settings(attack, steps=2, target=0, queries=5)(wrapped, Batch(GREY, LABELS), Radius(epsilon)) - GREY
    size = np.abs(change).max() if ATTACKS[attack].norm == "linf" else lengths(change).max()
    assert size <= epsilon + 1e-6


def test_a_reseeded_network_with_a_random_layer_repeats_its_draws(fragile):
    _, network, images, _ = fragile
    noisy = Classifier(broken.defended(network, front=broken.Noise(0.1)), batch_size=32)
    noisy.reseed(5)
    first, second = noisy.logits(images[:8]), noisy.logits(images[:8])
    noisy.reseed(5)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(noisy.logits(images[:8]), first)


RADIUS = 14  # in 1/255: the undefended network has almost no robust accuracy there


def robust_accuracy(by, scorer, images, labels, *, early_exit):
    radius = Radius(RADIUS / 255)
    crafted = PGD(steps=20, early_exit=early_exit)(by, Batch(images, labels), radius)
    answers = scorer.logits(np.concatenate([images, on_grid(crafted, images, radius)]))
    return float(np.mean((answers.argmax(axis=1) == np.tile(labels, 2)).reshape(2, -1).all(axis=0)))


def through(layer, surrogate=None):
    return lambda bare, defended, images: StraightThrough(bare, broken.on_pixels(layer), surrogate)


def mean_of_three_rows(pixels):
    return tf.nn.avg_pool2d(pixels, (3, 1), 1, "SAME")


DEFENCES = {
    "saturated": (
        {"behind": broken.saturated()},
        lambda bare, defended, images: Unsaturated(defended, scale=logit_scale(defended, images)),
    ),
    "noise": ({"front": broken.Noise(0.05)}, lambda bare, defended, images: Expectation(defended, 10)),
    "jpeg": ({"front": broken.Jpeg(80)}, through(broken.Jpeg(80))),
    "bit_depth": ({"front": broken.BitDepth(3)}, through(broken.BitDepth(3))),
    "median": ({"front": broken.Median()}, through(broken.Median(), mean_of_three_rows)),
}


@pytest.mark.parametrize("defence", DEFENCES)
def test_the_adaptive_attack_brings_a_broken_defence_back_to_the_undefended_level(defence, fragile):
    bare, network, images, labels = fragile
    layers, adapt = DEFENCES[defence]
    defended = Classifier(broken.defended(network, **layers), batch_size=32)
    undefended = robust_accuracy(bare, bare, images, labels, early_exit=False)
    claimed = robust_accuracy(defended, defended, images, labels, early_exit=True)
    # The margin of one draw is not reliable: a randomised model is attacked until the last step.
    recovered = robust_accuracy(adapt(bare, defended, images), defended, images, labels, early_exit=False)
    assert claimed >= undefended + 0.1
    assert recovered <= undefended + 0.05
