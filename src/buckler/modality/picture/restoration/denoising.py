"""Classical removal of noise: non-local means, total variation, wavelets.

Each estimates the strength of the noise from the picture, so that a clean picture hardly changes.
"""

import numpy as np
import numpy.typing as npt
import pywt
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

from buckler.modality.picture.restoration.base import Picture, PictureStep

_MEDIAN_OF_GAUSSIAN = 0.6745  # of its absolute value, in standard deviations

Restored = npt.NDArray[np.floating]


class NonLocalMeans(PictureStep):
    """Replaces a pixel by the mean of pixels whose surroundings look alike.

    The settings are the best of nine on twelve dermoscopy pictures with noise of 15 and 25/255.
    """

    name = "nl_means"
    title = "non-local means"
    source = "Buades, Coll & Morel, A non-local algorithm for image denoising, CVPR 2005"

    def restored(self, picture: Picture) -> Restored:
        """Return the mean over patches of 5 pixels a side within 6 pixels."""
        sigma = noise_of(picture)
        settings = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "channel_axis": -1}
        return np.asarray(denoise_nl_means(picture, h=0.6 * sigma, sigma=sigma, **settings)) if sigma else picture


class TotalVariation(PictureStep):
    """Finds the picture near the given one whose neighbouring pixels differ least in sum; keeps edges."""

    name = "tv"
    title = "total variation"
    source = "Chambolle, An algorithm for total variation minimization and applications, JMIV 2004"

    def restored(self, picture: Picture) -> Restored:
        """Return the minimum for a weight equal to the noise."""
        sigma = noise_of(picture)
        return np.asarray(denoise_tv_chambolle(picture, weight=sigma, channel_axis=-1)) if sigma else picture


class Wavelets(PictureStep):
    """Shrinks the wavelet coefficients of luma and chroma by thresholds fitted to each scale."""

    name = "wavelet"
    title = "wavelets"
    source = "Chang, Yu & Vetterli, Adaptive wavelet thresholding for image denoising, IEEE TIP 2000 (BayesShrink)"

    def restored(self, picture: Picture) -> Restored:
        """Return the picture from soft-thresholded coefficients."""
        sigma = noise_of(picture)
        settings = {"method": "BayesShrink", "mode": "soft", "convert2ycbcr": True, "channel_axis": -1}
        return np.asarray(denoise_wavelet(picture, sigma=sigma, **settings)) if sigma else picture


def noise_of(picture: Picture) -> float:
    """Return the estimated standard deviation of the noise of ``picture``, mean over its channels.

    Source: Donoho & Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994: the median of the finest
    wavelet coefficients.
    """
    _, (_, _, finest) = pywt.dwt2(picture, "db2", axes=(0, 1))
    return float((np.median(np.abs(finest), axis=(0, 1)) / _MEDIAN_OF_GAUSSIAN).mean())
