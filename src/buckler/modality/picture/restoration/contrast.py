"""Enhancement of local contrast."""

import numpy as np
import numpy.typing as npt
from skimage.exposure import equalize_adapthist

from buckler.modality.picture.restoration.base import Picture, PictureStep


class AdaptiveEqualisation(PictureStep):
    """Equalises the histogram of brightness in tiles, with a limit that keeps noise from growing; hue stays.

    It enhances and does not restore: the result differs more from the original than the given picture does.
    """

    name = "clahe"
    title = "CLAHE"
    source = "Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994"

    def restored(self, picture: Picture) -> npt.NDArray[np.floating]:
        """Return the picture with more local contrast."""
        # scikit-image stretches the whole range first, which a picture of one brightness does not have.
        return np.asarray(equalize_adapthist(picture, clip_limit=0.01)) if np.ptp(picture.max(axis=-1)) else picture
