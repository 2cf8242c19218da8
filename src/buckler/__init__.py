"""Buckler trains, attacks, gates, serves and watches clinical classifiers.

Importing the package creates no folder, contacts no server and does not load TensorFlow. The public names below are
loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buckler import attacks
    from buckler.client import Client, ServiceError
    from buckler.errors import BucklerError
    from buckler.modality.picture.images import load_pixels
    from buckler.models.checkpoint import load_network
    from buckler.models.classifier import Classifier
    from buckler.serving.predictor import Prediction, Predictor
    from buckler.trust.keys import load_public_keys
    from buckler.trust.verdict import verify_release

__all__ = [
    "BucklerError",
    "Classifier",
    "Client",
    "Prediction",
    "Predictor",
    "ServiceError",
    "attacks",
    "load_network",
    "load_pixels",
    "load_public_keys",
    "verify_release",
]

# The modules of the imports above, which are visible to type checkers and import contracts.
_MODULES = {
    "BucklerError": "errors",
    "Classifier": "models.classifier",
    "Client": "client",
    "Prediction": "serving.predictor",
    "Predictor": "serving.predictor",
    "ServiceError": "client",
    "load_network": "models.checkpoint",
    "load_pixels": "modality.picture.images",
    "load_public_keys": "trust.keys",
    "verify_release": "trust.verdict",
}


def __getattr__(name: str) -> Any:
    if name == "attacks":  # a package with public names of its own
        return import_module(f"{__name__}.attacks")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
