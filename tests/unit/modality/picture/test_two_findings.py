import numpy as np
import pytest

from buckler.modality.picture import two_findings
from buckler.modality.picture.modality import MODALITY


def draw(label, index=3, seed=7, size=48):
    return two_findings.draw(label, index, seed=seed, size=size)


def test_the_generator_draws_every_set_of_findings():
    assert sorted(two_findings.LABELS) == ["no_finding", "streaks", "streaks+veil", "veil"]
    for label in two_findings.LABELS:
        picture = draw(label)
        assert (picture.shape, picture.dtype) == ((48, 48, 3), np.float32)
        assert 0 <= picture.min() < picture.max() <= 1
        np.testing.assert_array_equal(picture, draw(label))
        assert np.abs(draw(label, index=4) - picture).mean() > 0.01
        np.testing.assert_array_equal(MODALITY.generate(label, 3, 7, 48), picture)
        assert MODALITY.mask(label, 3, 7, 48) is None


def test_the_veil_is_bluer_than_a_lesion_without_it():
    def blue(label):
        pictures = np.stack([draw(label, index) for index in range(40)])[:, 20:28, 20:28]
        return float((pictures[..., 2] - pictures[..., 0]).mean())

    assert blue("veil") > blue("no_finding") + 0.05
    assert blue("streaks+veil") > blue("streaks") + 0.05


@pytest.mark.parametrize(
    ("label", "size", "message"), [("benign", 48, "a label of"), ("veil", 8, "at least 16 pixels")]
)
def test_what_cannot_be_drawn_is_refused(label, size, message):
    with pytest.raises(ValueError, match=message):
        draw(label, size=size)
