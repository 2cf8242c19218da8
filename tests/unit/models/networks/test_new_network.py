"""A new architecture needs one file and one entry in the table; all other code works with it unchanged."""

import numpy as np
import pytest

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.errors import ModelError
from buckler.modality.base import Radius
from buckler.models import checkpoint, export
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.networks import table
from buckler.models.networks.base import Architecture, HeadShape, Tap
from buckler.models.runtime import FILES, Runtime, RuntimeInfo
from buckler.serving import selftest
from buckler.serving.predictor import Predictor
from buckler.training.loop import Schedule, train_network
from buckler.trust.digests import directory_digest
from tests import screenings, verdicts
from tests.forms import PICTURE, square
from tests.unit import small

pytestmark = pytest.mark.slow

LABELS = ("benign", "malignant")


def strided(pixels):
    values = keras.layers.Conv2D(8, 5, strides=2, padding="same", activation="relu", name="coarse")(pixels)
    values = keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="middle")(values)
    values = keras.layers.Conv2D(10, 3, padding="same", activation="relu", name="fine")(values)
    return keras.layers.MaxPooling2D(name="pool")(values)


STRIDED = Architecture(
    name="strided",
    title="a network of this test",
    maps=strided,
    taps=(Tap("coarse", 8), Tap("middle", 12), Tap("fine", 10)),
    pooling="max",
    trace_taps=(0, 2),
    probe_taps=(1,),
    cloud_tap=2,
    min_size=8,
    frozen_base=False,
)


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setitem(table.NETWORKS, STRIDED.name, STRIDED)
    return table.find("strided")


def test_a_new_architecture_is_trained_attacked_exported_screened_and_served(network, tmp_path):
    images, labels = small.pictures(2, 400, seed=1)
    unseen, truth = small.pictures(2, 100, seed=2)
    trained = network.build(square(small.SIDE), 2, head=HeadShape((16,), dropout=0.0), seed=3)
    schedule = Schedule(epochs=8, batch_size=32, learning_rate=3e-3, seed=3)
    train_network(trained, (images, labels), (unseen, truth), schedule=schedule, vary=PICTURE.varied)

    classifier = Classifier(trained, batch_size=20)
    clean = classifier.logits(unseen).argmax(axis=1) == truth
    batch = Batch(unseen, truth, ids=tuple(map(str, range(len(unseen)))), seed=0)
    attacked = classifier.logits(PGD(steps=10)(classifier, batch, Radius(16 / 255))).argmax(axis=1) == truth
    assert clean.mean() > 0.8
    assert attacked.mean() < clean.mean() - 0.2

    info = checkpoint.ModelInfo(LABELS, ("malignant",), square(small.SIDE), "sha256:0", architecture=network.name)
    checkpoint.save(trained, info, tmp_path)
    np.testing.assert_array_equal(
        Classifier(checkpoint.load_network(tmp_path), batch_size=20).logits(unseen), classifier.logits(unseen)
    )
    export.write(trained, images[:64], tmp_path)
    RuntimeInfo(("float32",), "test").save(tmp_path)
    runtime = Runtime(tmp_path / FILES["float32"], "float32")
    assert runtime.forward(unseen).features.shape == (100, 2 * (8 + 12 + 10))
    np.testing.assert_allclose(runtime.forward(unseen).features, classifier.forward(unseen).features, atol=1e-3)

    screenings.fit(runtime, images, labels, network=network).save(tmp_path)
    selftest.write(tmp_path)
    predictor = Predictor.of(tmp_path, verdicts.verdict(digest=directory_digest(tmp_path)))
    selftest.check(predictor, tmp_path)
    answers = [predictor(pixels).label for pixels in unseen]
    assert np.mean([LABELS.index(answer) == label for answer, label in zip(answers, truth, strict=True)]) > 0.8
    _, relevance = predictor.predict_and_explain(unseen[0], "malignant")
    assert relevance.shape == (small.SIDE // 2, small.SIDE // 2)


def test_an_architecture_without_entry_is_rejected_by_name():
    with pytest.raises(ModelError, match=r"expected one of the networks vgg19, .*, small, tiny, conv1d, got strided"):
        table.find("strided")
