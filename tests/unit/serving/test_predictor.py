import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks.signing import write_verdict
from buckler.detection.quality import QualityLimits
from buckler.detection.reasons import Reason
from buckler.errors import ModelError
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import HeatMapCheck
from buckler.measurements.stated import Measured
from buckler.modality.picture.restoration import table
from buckler.models import checkpoint, denoiser, export
from buckler.models.backend import keras
from buckler.models.classifier import Classifier
from buckler.models.denoiser import Denoiser
from buckler.models.explanation import relevance_of
from buckler.models.features import head_of, last_maps
from buckler.models.forward import probabilities
from buckler.models.info import ModelInfo
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.models.randomised import RandomisedInput
from buckler.models.runtime import Runtime, RuntimeInfo
from buckler.serving.predictor import Predictor
from buckler.trust import keys
from buckler.trust.verdict import EVIDENCE_DIR, MODEL_DIR
from tests import screenings, verdicts
from tests.forms import PICTURE, square

INFO = ModelInfo(("benign", "malignant"), ("malignant",), square(32), "sha256:0", architecture="tiny")


def verdict(days=1):
    now = datetime.now(UTC)
    return verdicts.verdict(issued_at=now - timedelta(days=9), expires_at=now + timedelta(days=days))


@pytest.fixture(scope="module")
def screening(tiny_classifier, tiny_pictures):
    return screenings.fit(tiny_classifier, *tiny_pictures)


@pytest.fixture(scope="module")
def predictor(tiny_network, screening):
    """A function from a network (default: ``tiny_network``) and thresholds of the screening to its predictor."""
    reference = Classifier(tiny_network, batch_size=1)

    def make(network=reference, *, days=1, **lines):
        return Predictor(network, replace(screening, **lines), INFO, verdict(days), head_of(tiny_network))

    return make


def test_answer_is_the_most_probable_class(predictor, tiny_pictures):
    answer = predictor()(tiny_pictures[0][0])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
    assert (answer.decision, answer.reasons, answer.verdict) == ("accept", (), "clean")


@pytest.mark.parametrize("engine", ["keras", "exported"])
def test_an_explained_answer_is_the_plain_answer_with_the_heat_map_of_a_label(
    predictor, tiny_network, tiny_pictures, exported, engine
):
    made = predictor() if engine == "keras" else predictor(Runtime(exported / "float32.xml", "float32"))
    pixels, until_maps = tiny_pictures[0][0], keras.Model(tiny_network.input, last_maps(tiny_network))
    maps = until_maps(pixels[None], training=False).numpy()[0]
    expected = {label: relevance_of(maps, head_of(tiny_network), place) for place, label in enumerate(INFO.labels)}
    np.testing.assert_array_equal(expected["benign"], expected["malignant"])  # the same places decide between two
    for label in (*INFO.labels, None):
        answer, relevance = made.predict_and_explain(pixels, label)
        assert answer.probabilities == pytest.approx(made(pixels).probabilities, abs=1e-6)
        assert answer.score == pytest.approx(made(pixels).score, rel=1e-4)
        np.testing.assert_allclose(relevance, expected[label or answer.label], atol=1e-4)


@pytest.mark.parametrize("engine", ["keras", "exported"])
@pytest.mark.parametrize("name", ["nl_means", "cnn"])
def test_a_restoration_step_precedes_the_network_and_not_the_input_checks(
    tiny_network, tiny_pictures, screening, exported, tmp_path, engine, name
):
    step = Denoiser(denoiser.build(seed=3)) if name == "cnn" else table.find(name)
    checkpoint.save(tiny_network, replace(INFO, restore=name), tmp_path, step)
    screening.save(tmp_path)
    if engine == "exported":
        for file in exported.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        if name == "cnn":
            export.write_denoiser(step, INFO.shape, tmp_path)
    made = Predictor.of(tmp_path, verdict(), precision="float32" if engine == "exported" else None)
    pixels = tiny_pictures[0][1]
    (restored,), network = step(pixels[None]), Classifier(tiny_network, batch_size=1)
    shares = screening.probabilities(network.logits(restored[None]))[0]
    for answer in (made(pixels), made.predict_and_explain(pixels)[0]):
        assert list(answer.probabilities.values()) == pytest.approx(shares, abs=1e-4)
    forward = network.forward(restored[None])
    assert answer.score == pytest.approx(screening.flags(pixels[None], forward)[0][0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("hits", "reliable"), [(80, True), (79, False)])
def test_heat_maps_are_reliable_if_they_pointed_at_the_lesion_or_were_not_checked(
    tiny_network, screening, hits, reliable
):
    network, head = Classifier(tiny_network, batch_size=1), head_of(tiny_network)
    measured = Measured(heat_map=HeatMapCheck(wilson(hits, 100), {}, 0)).document()
    checked = Predictor(network, screening, INFO, verdicts.verdict(measured=measured), head)
    assert checked.heat_maps_reliable is reliable
    assert Predictor(network, screening, INFO, verdicts.verdict(), head).heat_maps_reliable


def test_a_network_without_heat_maps_answers_and_shows_none(tiny_network, screening, tiny_pictures):
    network, pixels = Classifier(tiny_network, batch_size=1), tiny_pictures[0][0]
    made = Predictor(network, screening, replace(INFO, heat_maps=False), verdicts.verdict(), None)
    answer, relevance = made.predict_and_explain(pixels)
    assert answer.probabilities == made(pixels).probabilities
    assert (relevance.shape, relevance.any(), made.heat_maps_reliable) == ((4, 4), False, False)


def test_the_answer_and_the_explanation_of_a_randomised_network_are_of_one_draw(predictor, tiny_pictures):
    before = RandomisedInput(0.8, 8, seed=1, name="randomised")
    network = Classifier(TINY.build(square(32), 2, head=HeadShape((16, 8)), seed=1, before=before), batch_size=1)
    made, pixels = predictor(network), tiny_pictures[0][0]
    network.reseed(5)
    first, second = (network.forward(pixels[None], maps=True) for _ in range(2))
    network.reseed(5)
    answer, relevance = made.predict_and_explain(pixels, "malignant")
    np.testing.assert_array_equal(relevance, relevance_of(first.maps[0], made._head, 1))
    assert list(answer.probabilities.values()) == pytest.approx(probabilities(first.logits)[0], abs=1e-6)
    # The next pass is the second after the seed: the answer drew once.
    np.testing.assert_array_equal(network.forward(pixels[None], maps=True).logits, second.logits)
    assert not np.allclose(first.logits, second.logits)


def test_an_explained_answer_goes_to_review_like_a_plain_one(predictor, tiny_pictures):
    pixels, flagging = tiny_pictures[0][0], predictor(threshold=-1e9)
    assert flagging.predict_and_explain(pixels)[0].reasons == ("adversarial",)
    late = predictor().predict_and_explain(pixels, review_from=datetime(2020, 1, 1, tzinfo=UTC))[0]
    assert (late.decision, late.reasons) == ("review", ("model_degraded",))


def test_an_unknown_label_or_a_network_without_maps_cannot_be_explained(predictor, tiny_classifier, tiny_pictures):
    with pytest.raises(ValueError, match="expected one of the labels benign, malignant, got melanoma"):
        predictor().predict_and_explain(tiny_pictures[0][0], "melanoma")

    class WithoutMaps:
        precision = "float32"

        def forward(self, images, *, maps=False):
            return tiny_classifier.forward(images)

    with pytest.raises(ModelError, match="expected a network that returns its maps"):
        predictor(WithoutMaps()).predict_and_explain(tiny_pictures[0][0])


def test_score_above_the_threshold_goes_to_review_as_adversarial(predictor, tiny_pictures):
    answer = predictor(threshold=-1e9)(tiny_pictures[0][0])
    assert (answer.decision, answer.reasons, answer.verdict) == ("review", ("adversarial",), "adversarial")


def test_a_picture_far_from_all_classes_goes_to_review_as_out_of_distribution(predictor, tiny_pictures):
    answer = predictor(strangeness=-1.0)(tiny_pictures[0][0])
    assert (answer.reasons, answer.verdict) == (("out_of_distribution",), "clean")


def test_a_picture_beyond_the_limits_goes_to_review_for_its_quality(predictor, tiny_pictures):
    quality = QualityLimits.fit(tiny_pictures[0], PICTURE)
    asked = predictor(quality=quality)
    assert asked(np.zeros((32, 32, 3), np.float32)).reasons == ("image_quality",)
    assert asked(tiny_pictures[0][0]).reasons == ()


def test_an_answer_whose_danger_is_not_excluded_goes_to_review(predictor, tiny_pictures):
    label = predictor()(tiny_pictures[0][0]).label
    for dangerous in INFO.labels:
        answer = predictor(dangerous=(INFO.labels.index(dangerous),), danger_limit=None)(tiny_pictures[0][0])
        expected = ("accept", ()) if dangerous == label else ("review", ("danger_not_excluded",))
        assert (answer.label, answer.decision, answer.reasons) == (label, *expected)


def test_the_limit_parts_answers_by_their_probability_of_danger(predictor, tiny_pictures):
    answers = [predictor()(pixels) for pixels in tiny_pictures[0]]
    (harmless,) = {answer.label for answer in answers}
    (danger,) = set(INFO.labels) - {harmless}
    limit = float(np.median([answer.probabilities[danger] for answer in answers]))
    asked = predictor(dangerous=(INFO.labels.index(danger),), danger_limit=limit)
    found = [asked(pixels).reasons for pixels in tiny_pictures[0]]
    assert found == [("danger_not_excluded",) if each.probabilities[danger] > limit else () for each in answers]
    assert len(set(found)) == 2


def test_the_temperature_changes_the_probabilities_and_not_the_label(predictor, tiny_pictures):
    for pixels in tiny_pictures[0][:8]:
        sharp, even = (predictor(temperature=temperature)(pixels) for temperature in (1.0, 3.0))
        assert sharp.label == even.label
        odds = [np.log(each.probabilities["malignant"] / each.probabilities["benign"]) for each in (sharp, even)]
        assert odds[0] == pytest.approx(3 * odds[1], rel=1e-3, abs=1e-4)


def test_reasons_are_in_the_order_of_the_contract(predictor, tiny_pictures):
    lines = {"threshold": -1e9, "strangeness": -1.0, "min_confidence": 1.01, "danger_limit": None}
    other = {"benign": 1, "malignant": 0}[predictor()(tiny_pictures[0][0]).label]
    answer = predictor(days=-1, **lines, dangerous=(other,))(tiny_pictures[0][0])
    inputs = ("adversarial", "out_of_distribution", "low_confidence", "danger_not_excluded")
    assert answer.reasons == (*inputs, "model_degraded")


def test_a_query_attack_adds_its_reason_and_leaves_the_detectors_verdict(predictor, tiny_pictures):
    clean = predictor()(tiny_pictures[0][0])
    suspect = clean.for_review(Reason.QUERY_ATTACK)
    assert suspect == replace(clean, decision="review", reasons=("query_attack",))
    flagged = predictor(threshold=-1e9, min_confidence=1.01)(tiny_pictures[0][0])
    both = flagged.for_review(Reason.QUERY_ATTACK)
    assert both.reasons == ("adversarial", "query_attack", "low_confidence")
    assert both.for_review(Reason.QUERY_ATTACK) == both


def test_an_unsure_answer_goes_to_review(predictor, tiny_pictures):
    answer = predictor(min_confidence=1.01)(tiny_pictures[0][0])
    assert answer.reasons == ("low_confidence",)


def test_every_answer_goes_to_review_once_the_verdict_has_expired(predictor, tiny_pictures):
    answer = predictor(days=-1)(tiny_pictures[0][0])
    assert answer.reasons == ("model_degraded",)


def test_score_comes_from_the_features_of_the_same_picture(predictor, screening, tiny_classifier, tiny_pictures):
    picture = tiny_pictures[0][3]
    expected = screening.detector.score(tiny_classifier.forward(picture[None]))[0]
    assert predictor()(picture).score == pytest.approx(expected, rel=1e-5)


def test_warm_up_answers_without_a_picture(predictor):
    predictor().warm_up()
    assert np.isfinite(predictor()(np.zeros((32, 32, 3), np.float32)).score)


@pytest.fixture
def release(screening, tiny_network, tmp_path):
    """A release without an exported network, and a function that signs its current files."""
    keys.generate_key_pair(tmp_path / "keys")
    release = tmp_path / "release"
    checkpoint.save(tiny_network, INFO, release / MODEL_DIR)
    screening.save(release / MODEL_DIR)
    (release / EVIDENCE_DIR).mkdir()
    (release / EVIDENCE_DIR / "gate.json").write_text("{}")

    def sign():
        write_verdict(release, tmp_path / "keys")
        return keys.load_public_keys(tmp_path / "keys" / keys.PUBLIC_KEY_FILE)

    return release, sign


def test_the_exported_network_answers_if_there_is_one_else_the_reference(release, tiny_network, tiny_pictures):
    directory, sign = release
    reference = Predictor.load(directory, sign())
    export.write(tiny_network, tiny_pictures[0], directory / MODEL_DIR)
    RuntimeInfo(("float32",), "test").save(directory / MODEL_DIR)
    exported = Predictor.load(directory, sign(), threads=1)
    assert (reference.precision, exported.precision) == ("float32", "float32")
    assert [type(predictor._network).__name__ for predictor in (reference, exported)] == ["Classifier", "Runtime"]
    answers = [predictor(tiny_pictures[0][0]) for predictor in (reference, exported)]
    assert answers[0].probabilities == pytest.approx(answers[1].probabilities, abs=1e-4)
    assert answers[0].score == pytest.approx(answers[1].score, rel=1e-2)


def test_without_exported_network_and_tensorflow_the_error_names_what_to_install(release, tmp_path):
    directory, sign = release
    sign()
    code = (
        "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\nfrom buckler.trust import keys\nfrom buckler.serving.predictor import Predictor\n"
        f"Predictor.load(Path({str(directory)!r}), keys.load_public_keys(Path({str(tmp_path / 'keys')!r}) / "
        "keys.PUBLIC_KEY_FILE))"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "install the extra `cpu`, or build the release again" in failed.stderr
