import dataclasses

import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.modality.base import Radius
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.radius import StatedRadius
from buckler.training.adversarial import Examples, Recipe, harden
from tests.forms import PICTURE, square
from tests.unit import small

pytestmark = pytest.mark.slow

EPSILON_255 = 10
RECIPE = Recipe(
    radius=StatedRadius(EPSILON_255),
    rising_epochs=2,
    steps=1,
    loss="cross_entropy",
    trades_beta=2.0,
    clean_share=0.25,
    malignant_weight=1.0,
    label_smoothing=0.1,
    unfrozen_blocks=5,
    epochs=4,
    batch_size=32,
    learning_rate=2e-3,
    clip_norm=1.0,
    averaging=0.9,
)


@pytest.fixture(scope="module")
def undefended():
    return small.train(2, symmetric=True)[1]


@pytest.fixture(scope="module")
def examples():
    return tuple(Examples(*small.pictures(2, count, seed, symmetric=True)) for count, seed in ((960, 1), (120, 2)))


def copy_of(network):
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def hardened(undefended, examples, recipe=RECIPE, **options):
    network = copy_of(undefended)
    how = {"precision": "float32", "seed": 5, "vary": PICTURE.varied} | options
    history = harden(network, *examples, recipe, **how)
    return network, history


def robust_accuracy(network, validation):
    classifier = Classifier(network, batch_size=40)
    adversarial = PGD(steps=20)(classifier, Batch(validation.images, validation.truth), Radius(EPSILON_255 / 255))
    return np.mean(classifier.logits(adversarial).argmax(axis=1) == validation.truth)


@pytest.fixture(scope="module")
def plain(undefended, examples):
    """The network that the plain recipe hardens without interruption, and its history."""
    return hardened(undefended, examples)


@pytest.fixture(scope="module")
def robust_before(undefended, examples):
    return robust_accuracy(undefended, examples[1])


@pytest.mark.parametrize("changes", [{}, {"steps": 3}, {"loss": "trades"}], ids=["fgsm", "pgd", "trades"])
def test_a_hardened_network_is_robust_to_an_attack_that_flips_the_undefended_one(
    undefended, examples, plain, robust_before, changes
):
    network, history = hardened(undefended, examples, dataclasses.replace(RECIPE, **changes)) if changes else plain
    after = robust_accuracy(network, examples[1])
    assert after > robust_before + 0.1
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["val_robust_accuracy"] == pytest.approx(after, abs=0.1)


@pytest.fixture
def state(interrupted, tmp_path):
    """The file that a training leaves which is interrupted after its second epoch."""
    state = tmp_path / "state.npz"
    state.write_bytes(interrupted)
    return state


@pytest.fixture(scope="module")
def interrupted(undefended, examples, module_tmp_path):
    def interrupt(epoch, row):
        if epoch == 2:
            raise KeyboardInterrupt

    state = module_tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        hardened(undefended, examples, state=state, on_epoch=interrupt)
    return state.read_bytes()


def test_an_interrupted_training_resumes_with_the_results_of_the_same_seed_uninterrupted(
    undefended, examples, plain, state
):
    epochs = []
    resumed, history = hardened(undefended, examples, state=state, on_epoch=lambda epoch, row: epochs.append(epoch))
    assert epochs == [3, 4]
    assert len(history) == 4
    assert not state.exists()
    whole, rows = plain
    assert history == rows
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_state_of_another_recipe_is_ignored(undefended, examples, state):
    epochs = []
    other = dataclasses.replace(RECIPE, radius=StatedRadius(3))
    hardened(undefended, examples, other, state=state, on_epoch=lambda epoch, row: epochs.append(epoch))
    assert epochs == [1, 2, 3, 4]


def test_only_the_last_blocks_and_the_head_are_trained(examples):
    start = TINY.build(square(small.SIDE), 2, head=HeadShape((8,), 0.0), seed=1)
    recipe = dataclasses.replace(RECIPE, unfrozen_blocks=2, epochs=1)
    network, _ = hardened(start, examples, recipe)
    changed = {
        layer.name
        for layer, before in zip(network.layers, start.layers, strict=True)
        if any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), before.get_weights(), strict=True))
    }
    assert changed == {"block3_conv", "block4_conv", "dense_1", "logits"}
    with pytest.raises(ValueError, match="expected 0 to 4 unfrozen_blocks for tiny, got 5"):
        hardened(start, examples, RECIPE)


def test_weighting_dangerous_pictures_makes_their_label_likelier(undefended, examples, plain):
    def malignant_share(network):
        return np.mean(Classifier(network, batch_size=40).logits(examples[1].images).argmax(axis=1) == 1)

    recipe = dataclasses.replace(RECIPE, malignant_weight=6.0)
    weighted, _ = hardened(undefended, examples, recipe, dangerous=[1])
    assert malignant_share(weighted) > malignant_share(plain[0])


def test_bfloat16_hardens_too_and_leaves_a_float32_network(undefended, examples, robust_before):
    network, _ = hardened(undefended, examples, dataclasses.replace(RECIPE, epochs=2), precision="bfloat16")
    assert all(layer.compute_dtype == "float32" for layer in network.layers)
    assert robust_accuracy(network, examples[1]) > robust_before


def test_turned_pictures_are_the_eight_symmetries_of_the_square():
    picture = np.arange(2 * 2 * 3, dtype=np.float32).reshape(2, 2, 3)
    seen = {image.tobytes() for image in PICTURE.varied(np.stack([picture] * 200), np.random.default_rng(0))}
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unfrozen_blocks": -1}, "unfrozen_blocks of at least 0"),
        ({"steps": 0}, "above 0"),
        ({"radius": StatedRadius(0)}, "above 0"),
        ({"clean_share": 1.0}, "in 0..1"),
    ],
)
def test_an_invalid_recipe_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)
