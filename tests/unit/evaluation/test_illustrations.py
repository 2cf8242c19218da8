"""The example pictures of the robustness report."""

import numpy as np
import pytest

from buckler.errors import DataError
from buckler.evaluation import illustrations
from buckler.evaluation.illustrations import Illustrated
from buckler.measurements.results import AttackedPicture, Illustration

PICTURES = tuple(AttackedPicture(f"{label}.png", label, label, "benign") for label in ("benign", "malignant"))
ABOUT = Illustration("pgd", "linf", 2, PICTURES)
CLEAN = np.random.default_rng(7).integers(0, 256, (2, 4, 4, 3)).astype(np.float32) / 255
SHOWN = Illustrated(ABOUT, CLEAN, np.clip(CLEAN + np.float32(2 / 255), 0, 1))


def test_pixels_are_read_back_bit_for_bit_in_the_order_of_the_report(tmp_path):
    other = Illustrated(Illustration("fgsm", "linf", 1, PICTURES[:1]), CLEAN[:1], CLEAN[1:])
    illustrations.write(tmp_path, [SHOWN, other])
    for made, found in zip((SHOWN, other), illustrations.read(tmp_path, [ABOUT, other.about]), strict=True):
        assert found.about == made.about
        np.testing.assert_array_equal(found.clean, made.clean)
        np.testing.assert_array_equal(found.attacked, made.attacked)


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        illustrations.write(tmp_path / folder, [SHOWN])
    first, second = ((tmp_path / folder / illustrations.FILE).read_bytes() for folder in ("a", "b"))
    assert first == second


def test_pictures_of_another_report_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no .*illustrations\.npz; run `dvc repro` first"):
        illustrations.read(tmp_path, [ABOUT])
    illustrations.write(tmp_path, [SHOWN])
    fewer = Illustration("pgd", "linf", 2, PICTURES[:1])
    for reported in ([ABOUT, ABOUT], [fewer]):
        with pytest.raises(DataError, match="belongs to another robustness report"):
            illustrations.read(tmp_path, reported)
