import pytest

from buckler.data import sources
from buckler.errors import DataError
from buckler.modality.picture import images
from tests.forms import PICTURE


def test_generated_pictures_decode_and_do_not_depend_on_their_number():
    few = sources.generated(PICTURE, per_class=2, seed=3, size=32)
    many = {item.id: item for item in sources.generated(PICTURE, per_class=5, seed=3, size=32)}
    assert [item.id for item in few] == [
        "benign/00000.png",
        "benign/00001.png",
        "malignant/00000.png",
        "malignant/00001.png",
    ]
    for item in few:
        assert images.inspect(item.read()) == images.ImageInfo(32, 32, "RGB", "PNG")
        assert item.read() == many[item.id].read()


def test_the_generator_needs_a_positive_number():
    with pytest.raises(DataError, match=r"expected data\.per_class of at least 1 for the synthetic source, got 0"):
        sources.generated(PICTURE, per_class=0, seed=3, size=32)
