"""Our attacks compared with those of ART, Foolbox and CleverHans, on the same weights and pictures.

A sign step depends on the sign of every component of the gradient. Where a component is exactly zero (a dead ReLU),
no engine changes the pixel; where it differs from zero by a rounding error, engines may differ by twice the step.
Pictures must therefore agree in all but a stated share of their pixels.
"""

import numpy as np
import pytest

from buckler.attacks.ball import lengths
from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM, FGSMTargeted
from buckler.attacks.iterative import BIM, MIFGSM, PGD
from buckler.attacks.l2 import FGML2, PGDL2
from buckler.attacks.minimal import CarliniWagner, DeepFool
from buckler.modality.base import Radius

pytestmark = pytest.mark.slow

EPSILON, STEPS = 8 / 255, 8
STEP = EPSILON / 5
# A point: of 300 pictures, three.
POINT = 0.01


@pytest.fixture(scope="module")
def network():
    """A small network with VGG's normalisation, trained for seconds on graded stripes.

    Smoothed labels keep it from saturating: where the softmax is one but for rounding, so is every engine's gradient
    nothing but rounding.
    """
    from buckler.models.backend import keras
    from buckler.models.networks.vgg import ImageNetNormalisation

    keras.utils.set_random_seed(3)
    pixels = keras.Input((16, 16, 3))
    values = ImageNetNormalisation()(pixels) / 64
    for filters, stride in zip((8, 8, 16, 16, 16), (1, 2, 1, 2, 2), strict=True):
        values = keras.layers.Conv2D(filters, 3, stride, "same", activation="relu")(values)
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(values))
    model = keras.Model(pixels, logits)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    images, labels = stripes(600, seed=1)
    model.fit(images, np.eye(2)[labels], batch_size=50, epochs=8, verbose=0)
    return model


def stripes(count, seed):
    """Noisy stripes across or along, from clear ones to faint ones: some are flipped at once, some never."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    wave = np.sin(np.arange(16) * np.pi / 2)[:, None] * np.ones((16, 16))
    patterns = np.stack([wave, wave.T])[labels][..., None]
    contrast = generator.uniform(0.02, 0.3, (count, 1, 1, 1))
    images = 0.5 + contrast * patterns + 0.05 * generator.standard_normal((count, 16, 16, 3))
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.float32) / 255, labels.astype(np.int64)


@pytest.fixture(scope="module")
def ours(network):
    from buckler.models.classifier import Classifier

    return Classifier(network, batch_size=50)


@pytest.fixture(scope="module")
def pictures(ours):
    """Three hundred pictures and their labels."""
    return stripes(300, seed=2)


@pytest.fixture(scope="module")
def few(ours, pictures):
    """Thirty pictures that the network classifies correctly."""
    images, labels = pictures
    right = np.flatnonzero(ours.logits(images).argmax(axis=1) == labels)[:30]
    return images[right], labels[right]


@pytest.fixture(scope="module")
def compiled(network):
    from tests.unit.attacks.peers import Compiled

    return Compiled(network)


@pytest.fixture(scope="module")
def art_model(compiled):
    from tests.unit.attacks.peers import art_classifier

    return art_classifier(compiled)


class Art:
    """ART's attacks under our names."""

    def __init__(self, model):
        self.model = model

    def _run(self, attack, images, labels):
        return attack.generate(images, np.eye(2)[labels])

    def fgm(self, images, labels, epsilon, norm, targeted=False):
        from art.attacks.evasion import FastGradientMethod

        attack = FastGradientMethod(self.model, norm, epsilon, targeted=targeted, batch_size=50)
        return self._run(attack, images, labels)

    def bim(self, images, labels, epsilon, step, steps):
        from art.attacks.evasion import BasicIterativeMethod

        attack = BasicIterativeMethod(self.model, epsilon, step, steps, batch_size=50, verbose=False)
        return self._run(attack, images, labels)

    def pgd(self, images, labels, epsilon, step, steps, norm):
        from art.attacks.evasion import ProjectedGradientDescent

        attack = ProjectedGradientDescent(
            self.model, norm, epsilon, step, max_iter=steps, num_random_init=1, batch_size=50, verbose=False
        )
        return self._run(attack, images, labels)


class Foolbox:
    """Foolbox's attacks under our names."""

    def __init__(self, network):
        import foolbox

        self.model = foolbox.TensorFlowModel(network, bounds=(0, 1))

    def _run(self, attack, images, labels, epsilon):
        import foolbox

        from buckler.models.backend import tf

        criterion = labels if isinstance(labels, foolbox.criteria.Criterion) else tf.constant(labels)
        return attack(self.model, tf.constant(images), criterion, epsilons=epsilon)[1].numpy()

    def fgm(self, images, labels, epsilon, norm, targeted=False):
        from foolbox import attacks, criteria

        if targeted:
            attack = attacks.LinfBasicIterativeAttack(abs_stepsize=epsilon, steps=1)
            return self._run(attack, images, criteria.TargetedMisclassification(_tensor(labels)), epsilon)
        chosen = attacks.LinfFastGradientAttack if norm == np.inf else attacks.L2FastGradientAttack
        return self._run(chosen(random_start=False), images, labels, epsilon)

    def bim(self, images, labels, epsilon, step, steps):
        from foolbox.attacks import LinfBasicIterativeAttack

        return self._run(LinfBasicIterativeAttack(abs_stepsize=step, steps=steps), images, labels, epsilon)

    def pgd(self, images, labels, epsilon, step, steps, norm):
        from foolbox import attacks

        inf = norm == np.inf
        chosen = attacks.LinfProjectedGradientDescentAttack if inf else attacks.L2ProjectedGradientDescentAttack
        return self._run(chosen(abs_stepsize=step, steps=steps), images, labels, epsilon)


class CleverHans:
    """CleverHans's attacks under our names."""

    def __init__(self, network):
        self.network = network

    def fgm(self, images, labels, epsilon, norm, targeted=False):
        from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

        tuning = {"clip_min": 0, "clip_max": 1, "y": labels, "targeted": targeted}
        return fast_gradient_method(self.network, _tensor(images), epsilon, norm, **tuning).numpy()

    def bim(self, images, labels, epsilon, step, steps):
        from cleverhans.tf2.attacks.basic_iterative_method import basic_iterative_method

        tuning = {"clip_min": 0.0, "clip_max": 1.0, "y": labels, "sanity_checks": False}
        return basic_iterative_method(self.network, _tensor(images), epsilon, step, steps, np.inf, **tuning).numpy()

    def pgd(self, images, labels, epsilon, step, steps, norm):
        from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

        tuning = {"clip_min": 0.0, "clip_max": 1.0, "y": labels, "rand_init": True}
        return projected_gradient_descent(self.network, _tensor(images), epsilon, step, steps, norm, **tuning).numpy()

    def mifgsm(self, images, labels, epsilon, step, steps):
        from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method

        tuning = {"clip_min": 0.0, "clip_max": 1.0, "y": labels, "sanity_checks": False}
        return momentum_iterative_method(self.network, _tensor(images), epsilon, step, steps, **tuning).numpy()


def _tensor(values):
    from buckler.models.backend import tf

    return tf.constant(values)


@pytest.fixture(scope="module")
def peers(compiled, art_model):
    return {"art": Art(art_model), "foolbox": Foolbox(compiled), "cleverhans": CleverHans(compiled)}


@pytest.fixture(params=["art", "foolbox", "cleverhans"])
def peer(request, peers):
    return peers[request.param]


def assert_same_pictures(mine, theirs, apart):
    """At most a share of ``apart`` of the pixels differ by more than 1e-4."""
    share = float(np.mean(np.abs(mine - theirs) > 1e-4))
    assert share <= apart, f"{share:.5f} of the pixels differ"


def test_fgsm_gives_the_same_pictures(ours, pictures, peer):
    images, labels = pictures
    mine = FGSM()(ours, Batch(images, labels), Radius(EPSILON))
    assert_same_pictures(mine, peer.fgm(images, labels, EPSILON, np.inf), apart=1e-5)


def test_targeted_fgsm_gives_the_same_pictures(ours, pictures, peer):
    images, labels = pictures
    theirs = peer.fgm(images, 1 - labels, EPSILON, np.inf, targeted=True)
    for target in (0, 1):
        others = labels != target
        mine = FGSMTargeted(target=target)(ours, Batch(images[others], labels[others]), Radius(EPSILON))
        assert_same_pictures(mine, theirs[others], apart=1e-5)


def test_the_gradient_step_in_l2_gives_the_same_pictures(ours, pictures, peer):
    images, labels = pictures
    mine = FGML2()(ours, Batch(images, labels), Radius(0.5))
    assert_same_pictures(mine, peer.fgm(images, labels, 0.5, 2), apart=1e-5)


def test_bim_gives_the_same_pictures(ours, pictures, peer):
    images, labels = pictures
    mine = BIM(steps=STEPS, step_size=STEP, early_exit=False)(ours, Batch(images, labels), Radius(EPSILON))
    assert_same_pictures(mine, peer.bim(images, labels, EPSILON, STEP, STEPS), apart=1e-3)


def test_momentum_gives_the_same_pictures_as_cleverhans(ours, pictures, peers):
    # Foolbox sums the gradients without normalising them, ART has no such attack.
    images, labels = pictures
    mine = MIFGSM(steps=STEPS, step_size=STEP, early_exit=False)(ours, Batch(images, labels), Radius(EPSILON))
    assert_same_pictures(mine, peers["cleverhans"].mifgsm(images, labels, EPSILON, STEP, STEPS), apart=1e-3)


def test_fgsm_and_bim_give_the_same_pictures_on_the_real_architecture(tiny_network, tiny_classifier, tiny_pictures):
    images, labels = tiny_pictures
    peer = CleverHans(tiny_network)
    mine = FGSM()(tiny_classifier, Batch(images, labels), Radius(EPSILON))
    assert_same_pictures(mine, peer.fgm(images, labels, EPSILON, np.inf), apart=1e-4)
    mine = BIM(steps=3, early_exit=False)(tiny_classifier, Batch(images, labels), Radius(EPSILON))
    assert_same_pictures(mine, peer.bim(images, labels, EPSILON, EPSILON / 3, 3), apart=1e-2)


def accuracy(classifier, images, labels):
    return float(np.mean(classifier.logits(np.clip(images, 0, 1)).argmax(axis=1) == labels))


@pytest.mark.parametrize(("norm", "epsilon", "attack"), [(np.inf, 8 / 255, PGD), (2, 0.8, PGDL2)])
def test_pgd_leaves_the_same_robust_accuracy(norm, epsilon, attack, ours, pictures, peer):
    images, labels = pictures
    step = epsilon / 8
    mine = attack(steps=20, step_size=step)(ours, Batch(images, labels, seed=1), Radius(epsilon))
    theirs = peer.pgd(images, labels, epsilon, step, 20, norm)
    left = accuracy(ours, mine, labels)
    assert 0.2 < left < 0.9 * accuracy(ours, images, labels)
    assert left == pytest.approx(accuracy(ours, theirs, labels), abs=POINT)


def test_deepfool_perturbations_are_as_short_as_those_of_the_oracles(ours, few, art_model, peers):
    import foolbox
    from art.attacks.evasion import DeepFool as ArtDeepFool

    images, labels = few
    found = DeepFool().search(ours, Batch(images, labels))
    mine = lengths(found - images)
    by_art = ArtDeepFool(art_model, max_iter=50, epsilon=0.02, batch_size=30, verbose=False).generate(images)
    by_foolbox = foolbox.attacks.L2DeepFoolAttack()(
        peers["foolbox"].model, _tensor(images), _tensor(labels), epsilons=None
    )
    assert accuracy(ours, found, labels) == 0
    assert np.median(mine) <= 1.05 * np.median(lengths(by_art - images))
    assert np.median(mine) <= 1.05 * np.median(lengths(by_foolbox[1].numpy() - images))


def test_carlini_wagner_perturbations_are_as_short_as_arts(network, few, art_model):
    from art.attacks.evasion import CarliniL2Method

    from buckler.models.classifier import Classifier

    images, labels = (part[:12] for part in few)  # ART is slow
    ours = Classifier(network, batch_size=12)
    found = CarliniWagner().search(ours, Batch(images, labels))
    theirs = CarliniL2Method(art_model, batch_size=30, max_iter=10, verbose=False).generate(images, np.eye(2)[labels])
    flipped = ours.logits(theirs).argmax(axis=1) != labels
    assert accuracy(ours, found, labels) == 0
    mine = lengths(found - images)
    assert np.median(mine[flipped]) <= 1.05 * np.median(lengths(theirs - images)[flipped])
    assert np.median(mine) <= np.median(lengths(DeepFool().search(ours, Batch(images, labels)) - images))
