"""The self-test detects a model that answers differently than at the gate, and accepts a randomised one."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from buckler.errors import SelfTestError
from buckler.models import checkpoint, export, randomised, runtime
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.serving import selftest
from buckler.serving.predictor import Predictor
from buckler.trust import digests
from tests import screenings, verdicts
from tests.forms import PICTURE, square

LABELS = ("benign", "malignant")
pytestmark = pytest.mark.slow


def save(network, directory, defence="none"):
    pictures = np.random.default_rng(7).uniform(size=(40, 32, 32, 3)).astype(np.float32)
    checkpoint.save(
        network, checkpoint.ModelInfo(LABELS, ("malignant",), square(32), "sha256:test", defence, "tiny"), directory
    )
    screenings.fit(Classifier(network, batch_size=8), pictures, np.arange(len(pictures)) % 2).save(directory)
    return directory


def predictor_of(model):
    return Predictor.of(model, verdicts.verdict())


@pytest.fixture(scope="module")
def model(tiny_network, tmp_path_factory):
    directory = save(tiny_network, tmp_path_factory.mktemp("model"))
    selftest.write(directory)
    return directory


@pytest.fixture(scope="module")
def predictor(model):
    return predictor_of(model)


def test_the_model_of_the_gate_passes(model, predictor):
    selftest.check(predictor, model)


def test_the_reference_pictures_are_reproducible():
    first = PICTURE.references(selftest.PICTURES, square(32), 0)
    assert first.shape == (selftest.PICTURES, 32, 32, 3)
    np.testing.assert_array_equal(first, PICTURE.references(selftest.PICTURES, square(32), 0))
    assert all(picture.std() > 5 / 255 for picture in first)


class Otherwise:
    """The predictor on a machine that computes differently."""

    def __init__(self, predictor, see=lambda pixels: pixels, say=lambda prediction: prediction):
        self.labels, self.form, self.precision = predictor.labels, predictor.form, predictor.precision
        self._predictor, self._see, self._say = predictor, see, say

    def __call__(self, pixels):
        return self._say(self._predictor(np.ascontiguousarray(self._see(pixels))))


@pytest.mark.parametrize(
    "see",
    [
        pytest.param(lambda pixels: pixels[..., ::-1], id="colours in another order"),
        pytest.param(lambda pixels: pixels * np.float32(0.9), id="another scale"),
        pytest.param(np.round, id="a broken kernel"),
    ],
)
def test_different_answers_are_refused(model, predictor, see):
    with pytest.raises(SelfTestError, match=r"reference picture \d: expected a .* of .*, as at the gate, got"):
        selftest.check(Otherwise(predictor, see), model)


def test_nan_is_refused(model, predictor):
    broken = Otherwise(predictor, say=lambda prediction: replace(prediction, score=float("nan")))
    with pytest.raises(SelfTestError, match="detector score"):
        selftest.check(broken, model)


def test_rounding_differences_between_processors_pass(model, predictor):
    def rounded(prediction):
        shares = {label: share * 1.001 for label, share in prediction.probabilities.items()}
        return replace(prediction, probabilities=shares, score=prediction.score * 0.999)

    selftest.check(Otherwise(predictor, say=rounded), model)


def test_a_release_without_reference_pictures_names_the_next_step(model, predictor, tmp_path):
    with pytest.raises(SelfTestError, match="dvc repro"):
        selftest.check(predictor, tmp_path)
    (tmp_path / selftest.FILE).write_bytes(b"PK broken")
    with pytest.raises(SelfTestError, match="does not contain reference pictures"):
        selftest.check(predictor, tmp_path)


def test_a_randomised_network_is_compared_with_its_mean(tmp_path):
    randomisation = randomised.RandomisedInput(smallest=0.8, noise_255=2.0, seed=1)
    network = TINY.build(square(32), 2, head=HeadShape((16, 8)), seed=1, before=randomisation)
    directory = save(network, tmp_path / "model", defence="randomised")
    selftest.write(directory)
    answering = predictor_of(directory)
    for _ in range(3):
        selftest.check(answering, directory)


def test_the_signature_covers_the_reference_answers(model, tmp_path):
    before = digests.directory_digest(model)
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / selftest.FILE).write_bytes(b"other")
    assert digests.directory_digest(copy) != before


def test_an_exported_network_is_compared_with_the_answers_of_its_precision(tiny_network, tmp_path):
    pictures = np.random.default_rng(7).uniform(size=(40, 32, 32, 3)).astype(np.float32)
    directory = save(tiny_network, tmp_path / "model")
    export.write(tiny_network, pictures, directory)
    runtime.RuntimeInfo(("int8", "float32"), "test").save(directory)
    selftest.write(directory)
    for precision in runtime.offered(directory):
        served = Predictor.of(directory, verdicts.verdict(), precision=precision)
        assert served.precision == precision
        selftest.check(served, directory)
    with np.load(directory / selftest.FILE) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(directory / selftest.FILE, **{**kept, "expected_float32": kept["expected_float32"] + 1})
    with pytest.raises(SelfTestError, match="as at the gate"):
        selftest.check(Predictor.of(directory, verdicts.verdict(), precision="float32"), directory)


def test_a_client_can_distinguish_known_answers_from_others(model, predictor):
    pictures = selftest.reference_pictures(model)
    assert pictures.shape == (selftest.PICTURES, 32, 32, 3)
    for place, picture in enumerate(pictures):
        shares = list(predictor(np.asarray(picture / 255, np.float32)).probabilities.values())
        assert selftest.is_known(model, shares, place)
        assert not selftest.is_known(model, shares[::-1], place)
        assert not selftest.is_known(model, [float("nan")] * 2, place)


def test_a_release_without_known_answers_is_named(tmp_path):
    with pytest.raises(SelfTestError, match="expected reference pictures in"):
        selftest.reference_pictures(tmp_path)
    np.savez(tmp_path / selftest.FILE, pictures=np.zeros((1, 2, 2, 3)))
    with pytest.raises(SelfTestError, match="got none"):
        selftest.reference_pictures(tmp_path)
