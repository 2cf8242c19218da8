"""Picture statistics of the quality check and of served traffic.

Released quality limits and stored traffic depend on the exact values: do not change how a statistic is computed.
"""

import numpy as np
import numpy.typing as npt

from buckler.modality.base import Images

QUALITY_MEASURES = ("brightness", "contrast", "blur", "colour")
TRAFFIC_MEASURES = ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness")

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_Array = npt.NDArray[np.float32]


def quality_measures(images: Images) -> _Array:
    """Return ``QUALITY_MEASURES`` of ``images`` (n, h, w, 3) as ``(n, 4)``, each in 0..1.

    Brightness and contrast are mean and standard deviation of the luma. Colour is the mean difference between a
    pixel's largest and smallest channel; it is zero for a radiograph. Blur is the share of the luma's gradient that
    remains after a 3 x 3 box filter: near one for a blurred picture, small for a sharp one.

    Source: Crete, Dolmiere, Ladret & Nicolas, "The blur effect: perception and estimation with a new no-reference
        perceptual blur metric", SPIE 6492, 2007.
    """
    luma = images @ _LUMA
    highest, lowest = _channel_extremes(images)
    blur = _gradient(_box_filtered(luma)) / (_gradient(luma) + 1e-6)
    return np.stack([*_brightness_and_contrast(luma), blur, (highest - lowest).mean(axis=(1, 2))], axis=1)


def traffic_measures(pixels: _Array) -> dict[str, float]:
    """Return ``TRAFFIC_MEASURES`` of one picture, ``(h, w, 3)`` float32 in 0..1.

    Brightness, contrast: mean and standard deviation of the luma, 0..1. Red, green, blue: channel means, 0..1.
    Saturation: mean, 0..1, as in HSV. Sharpness: variance of the luma's Laplacian, in squared 8-bit levels.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000.
    """
    luma = pixels @ _LUMA
    highest, lowest = _channel_extremes(pixels)
    saturation = ((highest - lowest) / np.maximum(highest, 1e-6)).mean()
    sharpness = 255**2 * _laplacian(luma).var()
    channels = pixels.mean(axis=(0, 1), dtype=np.float64)
    values = (*_brightness_and_contrast(luma), *channels, saturation, sharpness)
    return {name: float(value) for name, value in zip(TRAFFIC_MEASURES, values, strict=True)}


def _brightness_and_contrast(luma: _Array) -> tuple[_Array, _Array]:
    return luma.mean(axis=(-2, -1)), luma.std(axis=(-2, -1))


def _channel_extremes(pixels: _Array) -> tuple[_Array, _Array]:
    # Channel by channel: a reduction along an axis of length three takes ten times as long.
    red, green, blue = (pixels[..., channel] for channel in range(3))
    return np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)


def _box_filtered(luma: _Array) -> _Array:
    rows = (luma[:, :-2] + luma[:, 1:-1] + luma[:, 2:]) / 3
    return np.asarray((rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 3)


def _gradient(luma: _Array) -> _Array:
    along, across = (np.abs(np.diff(luma, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    return np.asarray(along + across)


def _laplacian(luma: _Array) -> _Array:
    return luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
