import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from buckler.detection.reasons import INPUT_REASONS, Reason
from buckler.detection.screening import SCHEMA, Screening
from buckler.errors import ModelError
from buckler.modality.picture.measures import QUALITY_MEASURES
from buckler.models.forward import Forward
from tests import screenings


@pytest.fixture(scope="module")
def screening(tiny_classifier, tiny_pictures):
    return screenings.fit(tiny_classifier, *tiny_pictures)


def test_a_loaded_screening_flags_like_the_saved_one(tmp_path, screening, tiny_classifier, tiny_pictures):
    images = tiny_pictures[0]
    forward = tiny_classifier.forward(images)
    threshold = float(np.median(screening.detector.score(forward)))
    saved = replace(screening, threshold=threshold, min_confidence=0.6, temperature=2.5, danger_limit=0.1)
    saved.save(tmp_path)
    scores, flags = Screening.load(tmp_path).flags(images, forward)
    expected_scores, expected = saved.flags(images, forward)
    np.testing.assert_array_equal(scores, expected_scores)
    assert set(flags) == set(INPUT_REASONS)
    assert all((flags[reason] == expected[reason]).all() for reason in INPUT_REASONS)
    assert 0 < flags["adversarial"].sum() < len(images)


@pytest.mark.parametrize("limit", [None, -5e-324, 0.25])
def test_dangerous_labels_and_limit_are_stored_exactly(tmp_path, screening, limit):
    saved = replace(screening, dangerous=(0, 2), danger_limit=limit, temperature=1 / 3)
    saved.save(tmp_path)
    loaded = Screening.load(tmp_path)
    assert (loaded.dangerous, loaded.danger_limit, loaded.temperature) == ((0, 2), limit, 1 / 3)


@pytest.fixture(scope="module")
def flagged(tiny_classifier, tiny_pictures):
    """A function from a screening and logits to which of these answers have a reason."""
    features = tiny_classifier.forward(tiny_pictures[0]).features

    def ask(screening, logits, reason=Reason.DANGER_NOT_EXCLUDED):
        forward = Forward(np.asarray(logits, np.float32), features[: len(logits)])
        return screening.flags(tiny_pictures[0][: len(logits)], forward)[1][reason].tolist()

    return ask


@pytest.fixture(scope="module")
def of_four_classes(tiny_classifier, tiny_pictures):
    """A screening for a network with four classes."""

    class FourClasses:
        def forward(self, images):
            features = tiny_classifier.forward(images).features
            return Forward(np.random.default_rng(0).normal(size=(len(images), 4)).astype(np.float32), features)

    return screenings.fit(FourClasses(), *tiny_pictures)


def logits_of(*shares):
    return np.log(np.array(shares))


def test_a_harmless_label_needs_little_danger_and_a_dangerous_one_has_no_limit(screening, flagged):
    answers = logits_of([0.9, 0.1], [0.7, 0.3], [0.4, 0.6])
    assert flagged(replace(screening, danger_limit=0.2), answers) == [False, True, False]


def test_without_a_limit_every_harmless_label_and_no_dangerous_one_is_flagged(screening, flagged):
    answers = logits_of([1 - 1e-9, 1e-9], [0.7, 0.3], [0.4, 0.6])
    assert flagged(replace(screening, danger_limit=None), answers) == [True, True, False]


def test_without_dangerous_labels_nothing_is_flagged(screening, flagged):
    answers = logits_of([0.9, 0.1], [0.4, 0.6])
    assert flagged(replace(screening, dangerous=(), danger_limit=None), answers) == [False, False]


def test_the_probabilities_of_several_dangerous_labels_add_up(of_four_classes, flagged):
    answers = logits_of([0.4, 0.05, 0.3, 0.25], [0.9, 0.05, 0.03, 0.02], [0.1, 0.1, 0.6, 0.2], [0.3, 0.6, 0.05, 0.05])
    several = replace(of_four_classes, dangerous=(2, 3), danger_limit=0.5)
    assert flagged(several, answers) == [True, False, False, False]


def test_a_probability_at_the_limit_is_not_above_it(screening, flagged):
    answers = np.zeros((1, 2))  # both labels have one half, and the first is the label
    assert flagged(replace(screening, danger_limit=0.5), answers) == [False]
    assert flagged(replace(screening, danger_limit=float(np.nextafter(0.5, 0))), answers) == [True]


def test_an_answer_that_is_not_a_number_is_flagged(screening, flagged):
    assert flagged(replace(screening, danger_limit=1.0), [[np.nan, np.nan]]) == [True]


def test_the_temperature_decides_limit_and_confidence(screening, flagged):
    answers = logits_of([0.9, 0.1])  # at a temperature of two: 0.75 and 0.25
    for temperature, expected in ((1.0, False), (2.0, True)):
        lines = replace(screening, temperature=temperature, danger_limit=0.2, min_confidence=0.8)
        assert flagged(lines, answers) == [expected]
        assert flagged(lines, answers, Reason.LOW_CONFIDENCE) == [expected]
    np.testing.assert_allclose(lines.probabilities(answers), [[0.75, 0.25]])


@pytest.mark.parametrize("content", [pickle.dumps({"offset": 1}), b"", b"PK\x03\x04 cut off"])
def test_pickles_and_damaged_files_are_rejected(tmp_path, screening, content):
    screening.save(tmp_path)
    (tmp_path / "detector.npz").write_bytes(content)
    with pytest.raises(ModelError, match="contains no valid detector"):
        Screening.load(tmp_path)


def test_a_detector_of_another_schema_is_rejected(tmp_path, screening):
    screening.save(tmp_path)
    info = json.loads((tmp_path / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps({**info, "schema": 1}))
    with pytest.raises(ModelError, match="schema 6, got 1"):
        Screening.load(tmp_path)


# What a stored detector consists of. Where it changes, `SCHEMA` must count up: otherwise an older release is refused
# by an error about arrays instead of one that says what to do.
CONTENT = {
    6: {
        *("detector.read", "detector.probed", "detector.offset", "detector.scale", "detector.directions"),
        *("detector.probe", "detector.expected", "detector.spread", "detector.surprise", "detector.bias"),
        *("clouds.read", "clouds.offset", "clouds.scale", "clouds.centres", "clouds.whitener"),
        *("quality.low of brightness, contrast, blur, colour", "quality.high of brightness, contrast, blur, colour"),
        *("threshold", "max_fpr", "confidence", "strangeness", "min_confidence"),
        *("temperature", "dangerous", "min_sensitivity", "modality", "danger_limit"),
    }
}


def test_the_schema_counts_up_with_the_stored_content(tmp_path, screening):
    screening.save(tmp_path)
    measures = f" of {', '.join(QUALITY_MEASURES)}"
    with np.load(tmp_path / "detector.npz") as arrays:
        stored = {f"{name}{measures if name.startswith('quality.') else ''}" for name in arrays}
    assert stored | {*json.loads((tmp_path / "detector.json").read_text())} - {"schema"} == CONTENT[SCHEMA]


def test_an_error_names_a_missing_array(tmp_path, screening):
    screening.save(tmp_path)
    with np.load(tmp_path / "detector.npz") as arrays:
        np.savez(tmp_path / "detector.npz", **{name: arrays[name] for name in arrays.files if name != "clouds.scale"})
    with pytest.raises(ModelError, match=r"clouds\.scale"):
        Screening.load(tmp_path)


def test_quality_limits_for_too_few_measures_are_rejected(tmp_path, screening):
    screening.save(tmp_path)
    with np.load(tmp_path / "detector.npz") as arrays:
        cut = {name: array[:-1] if name.startswith("quality.") else array for name, array in arrays.items()}
    np.savez(tmp_path / "detector.npz", **cut)
    with pytest.raises(ModelError, match="expected limits of brightness, contrast, blur, colour, got 3"):
        Screening.load(tmp_path)


def test_a_detector_of_the_version_that_knew_only_pictures_is_read(tmp_path, screening):
    screening.save(tmp_path)
    info = json.loads((tmp_path / "detector.json").read_text())
    del info["modality"]
    (tmp_path / "detector.json").write_text(json.dumps({**info, "schema": 5}))
    assert Screening.load(tmp_path).modality == "picture"


def test_a_detector_of_an_unknown_modality_is_rejected(tmp_path, screening):
    replace(screening, modality="scent").save(tmp_path)
    with pytest.raises(ModelError, match=r"expected one of the modalities .*picture.*, got 'scent'"):
        Screening.load(tmp_path)
