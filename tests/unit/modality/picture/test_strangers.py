import numpy as np
import pytest

from buckler.modality.picture import strangers


@pytest.mark.parametrize("kind", strangers.KINDS)
def test_a_kind_gives_different_8_bit_pictures_repeatable_by_seed(kind):
    drawn = strangers.pictures(kind, 5, size=48, seed=3)
    assert drawn.shape == (5, 48, 48, 3)
    np.testing.assert_allclose(drawn * 255, np.round(drawn * 255), atol=1e-3)
    np.testing.assert_array_equal(drawn, strangers.pictures(kind, 5, size=48, seed=3))
    assert len({picture.tobytes() for picture in drawn}) == 5
