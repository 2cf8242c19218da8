"""What networks of tests read: square pictures."""

from typing import Final

from buckler.modality import table
from buckler.modality.base import InputForm, Shape

PICTURE: Final = table.find("picture")


def square(size: int) -> Shape:
    """Return the shape of a picture of ``size`` pixels a side."""
    return PICTURE.shape(size)


def pictures_of(size: int) -> InputForm:
    """Return the form of pictures of ``size`` pixels a side."""
    return InputForm(PICTURE, square(size))
