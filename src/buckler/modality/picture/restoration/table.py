"""Restoration steps by name; a new one is a class and a line in ``STEPS``.

The modules are loaded when a step is used: they need scikit-image, which an installation without steps need not have.
The residual CNN has no class here, because its weights are trained: `buckler.models.denoiser`.
"""

from importlib import import_module
from typing import Final

from buckler.errors import ModelError
from buckler.modality.picture.restoration.base import Step

STEPS: Final = {
    "none": "base:Unchanged",
    "nl_means": "denoising:NonLocalMeans",
    "tv": "denoising:TotalVariation",
    "wavelet": "denoising:Wavelets",
    "clahe": "contrast:AdaptiveEqualisation",
    "lesion_mask": "lesion:LesionMask",
}
CNN: Final = "cnn"
NAMES: Final = (*STEPS, CNN)


def find(name: str) -> Step:
    """Return the step called ``name``.

    Raises:
        ModelError: The name is unknown, or scikit-image is not installed.
    """
    if name not in STEPS:
        raise ModelError(f"expected one of the restoration steps {', '.join(STEPS)}, got {name}")
    module, _, kind = STEPS[name].partition(":")
    try:
        step: Step = getattr(import_module(f"{__package__}.{module}"), kind)()
    except ModuleNotFoundError as error:
        raise ModelError(
            f"restoration step {name}: expected the package {error.name}, which is not installed; install"
            " buckler[restore], or choose no step"
        ) from error
    return step
