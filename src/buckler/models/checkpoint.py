"""A network on disk, as Keras keeps it: the reference that is trained, attacked and exported. No pickle, no code."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.models import vgg
from buckler.models.backend import keras
from buckler.models.info import INFO_FILE
from buckler.models.info import ModelInfo as ModelInfo
from buckler.models.info import load_info as load_info
from buckler.models.randomised import RandomisedInput

NETWORK_FILE = "classifier.keras"
# Layers that a file may hold beside Keras's own.
_LAYERS = {f"buckler>{layer.__name__}": layer for layer in (vgg.ImageNetNormalisation, RandomisedInput)}


def save(network: keras.Model, info: ModelInfo, directory: Path) -> None:
    """Write ``network`` and ``info`` into ``directory``, which is made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    text = json.dumps(asdict(info), indent=2) + "\n"
    (directory / INFO_FILE).write_text(text, encoding="utf-8")


def load_network(directory: Path) -> keras.Model:
    """Return the float32 network saved in ``directory``; code inside the file is never run.

    Raises:
        ModelError: The file is missing, damaged, or does not fit ``model.json``.
    """
    info, path = load_info(directory), directory / NETWORK_FILE
    try:
        network: Any = keras.saving.load_model(path, _LAYERS, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds; each means that this file is no usable network
        raise ModelError(f"{path} cannot be loaded as a Keras network: {error}") from error
    expected = (info.image_size, info.image_size, 3, len(info.labels))
    found = (*network.input_shape[1:], network.output_shape[-1])
    if found != expected:
        raise ModelError(f"{path}: expected input and classes {expected} as {INFO_FILE} says, got {found}")
    return network
