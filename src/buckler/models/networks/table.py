"""Architectures by name; a new one is a file with an `Architecture` and an entry in ``NETWORKS``."""

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.networks import file
from buckler.models.networks.base import Architecture, Tap
from buckler.models.networks.conv1d import CONV1D
from buckler.models.networks.layout import Layout
from buckler.models.networks.small import SMALL
from buckler.models.networks.tiny import TINY
from buckler.models.networks.vgg import VGG19
from buckler.models.networks.vgg_texture import VGG19_FUNDUS, VGG19_TEXTURE

NETWORKS: dict[str, Architecture] = {
    network.name: network for network in (VGG19, VGG19_TEXTURE, VGG19_FUNDUS, SMALL, TINY, CONV1D)
}


def find(name: str) -> Architecture:
    """Return the architecture called ``name``.

    Raises:
        ModelError: The name is unknown.
    """
    check(name)
    if name not in NETWORKS:
        raise ModelError(f"expected a network that can be built, {', '.join(NETWORKS)}, got {name}")
    return NETWORKS[name]


def check(name: str) -> None:
    """Check that a saved network may have the name ``name``: that of an architecture, or of a network from a file.

    Raises:
        ModelError: The name is unknown.
    """
    if name not in NETWORKS and name != file.NAME:
        raise ModelError(f"expected one of the networks {', '.join(NETWORKS)}, got {name}")


def layout_of(model: keras.Model) -> Layout:
    """Return where detectors and heat maps read ``model``.

    Raises:
        ModelError: It was built from no architecture of the table and from no file.
    """
    check(model.name)
    return file.layout_of(model) if model.name == file.NAME else NETWORKS[model.name]


def taps_of(model: keras.Model) -> tuple[Tap, ...]:
    """Return the taps of ``model``; none if it was built from no architecture of the table and from no file."""
    return layout_of(model).taps if model.name in (*NETWORKS, file.NAME) else ()
