import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from buckler.detection.reasons import INPUT_REASONS
from buckler.detection.screening import SCHEMA, Screening
from buckler.errors import ModelError
from buckler.modality.picture.measures import QUALITY_MEASURES
from tests import screenings


@pytest.fixture(scope="module")
def screening(tiny_classifier, tiny_pictures):
    return screenings.fit(tiny_classifier, *tiny_pictures)


def test_a_loaded_screening_flags_like_the_saved_one(tmp_path, screening, tiny_classifier, tiny_pictures):
    images = tiny_pictures[0]
    forward = tiny_classifier.forward(images)
    threshold = float(np.median(screening.detector.score(forward)))
    saved = replace(screening, threshold=threshold, min_confidence=0.6)
    saved.save(tmp_path)
    scores, flags = Screening.load(tmp_path).flags(images, forward)
    expected_scores, expected = saved.flags(images, forward)
    np.testing.assert_array_equal(scores, expected_scores)
    assert set(flags) == set(INPUT_REASONS)
    assert all((flags[reason] == expected[reason]).all() for reason in INPUT_REASONS)
    assert 0 < flags["adversarial"].sum() < len(images)


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
    with pytest.raises(ModelError, match="schema 4, got 1"):
        Screening.load(tmp_path)


# What a stored detector consists of. Where it changes, `SCHEMA` must count up: otherwise an older release is refused
# by an error about arrays instead of one that says what to do.
CONTENT = {
    4: {
        *("detector.read", "detector.probed", "detector.offset", "detector.scale", "detector.directions"),
        *("detector.probe", "detector.expected", "detector.spread", "detector.surprise", "detector.bias"),
        *("clouds.read", "clouds.offset", "clouds.scale", "clouds.centres", "clouds.whitener"),
        *("quality.low of brightness, contrast, blur, colour", "quality.high of brightness, contrast, blur, colour"),
        *("threshold", "max_fpr", "confidence", "strangeness", "min_confidence"),
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
    with pytest.raises(ModelError, match="expected low and high of brightness, contrast, blur, colour"):
        Screening.load(tmp_path)
