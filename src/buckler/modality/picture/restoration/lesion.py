"""Segmentation before classification: pixels outside the lesion get the colour of the skin."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk

from buckler.modality.picture.restoration.base import Picture, PictureStep

SMALLEST, LARGEST = 0.01, 0.8  # share of the picture that a lesion may cover
MARGIN = 0.03  # skin that stays around the lesion, as a share of the picture's side: the border matters
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

Mask = npt.NDArray[np.bool_]


class LesionMask(PictureStep):
    """Keeps the lesion and its border, and paints the rest in the median colour of the skin.

    A picture in which no lesion is found stays as it is.
    """

    name = "lesion_mask"
    title = "lesion mask"
    source = "Otsu, A threshold selection method from gray-level histograms, 1979; Selvakkumar et al., arXiv 2112.08862"

    def restored(self, picture: Picture) -> npt.NDArray[np.floating]:
        """Return the picture without what surrounds the lesion."""
        lesion = mask_of(picture)
        if lesion is None:
            return picture
        skin = np.median(picture[~lesion], axis=0)
        return np.where(lesion[..., None], picture, skin)


def mask_of(picture: Picture) -> Mask | None:
    """Return which pixels of ``picture`` show the lesion or lie near it, ``(h, w)``; None if none is found.

    The lesion is the dark region that covers most of the middle: dark corners of the lens are not it.
    """
    side = min(picture.shape[:2])
    luma = gaussian(picture @ _LUMA, sigma=side / 100)
    if not np.ptp(luma):
        return None
    dark = luma < threshold_otsu(luma)
    dark = ndimage.binary_opening(dark, disk(max(1, side // 60)))  # removes hairs
    regions, count = ndimage.label(dark)
    if not count:
        return None
    weights = ndimage.sum_labels(_middle(luma.shape), regions, np.arange(1, count + 1))
    lesion = ndimage.binary_fill_holes(regions == 1 + int(np.argmax(weights)))
    if not SMALLEST <= lesion.mean() <= LARGEST:
        return None
    near = ndimage.distance_transform_edt(~lesion) <= MARGIN * side
    return None if near.all() else near


def _middle(shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    """Return weights ``(h, w)``: one in the middle of a picture, 0.02 in its corners."""
    rows, columns = (np.linspace(-1, 1, length) for length in shape)
    return np.exp(-2 * (rows[:, None] ** 2 + columns**2))
