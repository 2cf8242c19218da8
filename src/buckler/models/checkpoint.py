"""A classifier on disk: the Keras file and what must be known to use it. No pickle, nothing executable."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import pydantic

from buckler.errors import ModelError
from buckler.models import vgg
from buckler.models.randomised import RandomisedInput

NETWORK_FILE = "classifier.keras"
INFO_FILE = "model.json"
SCHEMA = 1
# Layers that a file may hold beside Keras's own.
_LAYERS = {f"buckler>{layer.__name__}": layer for layer in (vgg.ImageNetNormalisation, RandomisedInput)}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a classifier's numbers mean; the only place where its labels and input size are written down.

    Attributes:
        labels: Class names in the order of the logits.
        malignant: Those of ``labels`` whose flip to any other is the dangerous one; may be empty.
        image_size: Pixels a side at the input.
        data_version: Digest of the splits it was trained and tested on, as `buckler.data.pictures.version`.
        defence: What was done against attacks, as ``train.defence``; a randomised network answers at random.
    """

    labels: tuple[str, ...]
    malignant: tuple[str, ...]
    image_size: int
    data_version: str
    defence: Literal["none", "adversarial", "randomised"] = "none"
    architecture: str = vgg.ARCHITECTURE
    schema: int = SCHEMA


def save(network: keras.Model, info: ModelInfo, directory: Path) -> None:
    """Write ``network`` and ``info`` into ``directory``, which is made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    text = json.dumps(asdict(info), indent=2) + "\n"
    (directory / INFO_FILE).write_text(text, encoding="utf-8")


def load_info(directory: Path) -> ModelInfo:
    """Return what ``save`` wrote about the classifier in ``directory``.

    Raises:
        ModelError: The file is missing, malformed or of another schema.
    """
    path = directory / INFO_FILE
    try:
        info = pydantic.TypeAdapter(ModelInfo).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"no {INFO_FILE} in {directory}; expected a saved classifier") from error
    except pydantic.ValidationError as error:
        raise ModelError(f"{path} does not describe a classifier: {error}") from error
    if info.schema != SCHEMA or info.architecture != vgg.ARCHITECTURE:
        raise ModelError(
            f"{path}: expected schema {SCHEMA} of {vgg.ARCHITECTURE}, got {info.schema} of {info.architecture}"
        )
    return info


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
