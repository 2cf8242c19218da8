"""Architectures by name; a new one is a file with an `Architecture` and an entry in ``NETWORKS``."""

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap
from buckler.models.networks.small import SMALL
from buckler.models.networks.tiny import TINY
from buckler.models.networks.vgg import VGG19

NETWORKS: dict[str, Architecture] = {network.name: network for network in (VGG19, SMALL, TINY)}


def find(name: str) -> Architecture:
    """Return the architecture called ``name``.

    Raises:
        ModelError: The name is unknown.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise ModelError(f"expected one of the networks {', '.join(NETWORKS)}, got {name}") from None


def taps_of(model: keras.Model) -> tuple[Tap, ...]:
    """Return the taps of the architecture from which ``model`` was built; none if that is unknown."""
    known = NETWORKS.get(model.name)
    return known.taps if known else ()
