"""The networks by name; a new network is one more file and one more entry here."""

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.networks.base import Architecture, Tap
from buckler.models.networks.tiny import TINY
from buckler.models.networks.vgg import VGG19

NETWORKS: dict[str, Architecture] = {network.name: network for network in (VGG19, TINY)}


def find(name: str) -> Architecture:
    """Return the network called ``name``.

    Raises:
        ModelError: There is none.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise ModelError(f"expected one of the networks {', '.join(NETWORKS)}, got {name}") from None


def taps_of(model: keras.Model) -> tuple[Tap, ...]:
    """Return the taps of the network that ``model`` was built from; a model of another origin has none."""
    known = NETWORKS.get(model.name)
    return known.taps if known else ()
