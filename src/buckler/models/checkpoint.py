"""A network on disk, as Keras keeps it: the reference that is trained, attacked and exported. No pickle, no code."""

import json
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.info import INFO_FILE
from buckler.models.info import ModelInfo as ModelInfo
from buckler.models.info import load_info as load_info
from buckler.models.networks import vgg
from buckler.models.randomised import RandomisedInput
from buckler.state import files

NETWORK_FILE = "classifier.keras"
# Layers that a file may hold beside Keras's own.
_LAYERS = {f"buckler>{layer.__name__}": layer for layer in (vgg.ImageNetNormalisation, RandomisedInput)}


def save(network: keras.Model, info: ModelInfo, directory: Path) -> None:
    """Write ``network`` and ``info`` into ``directory``, which is made if missing.

    The same network makes the same bytes whenever it is saved: whoever trains it again can compare digests.
    """
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    _forget_the_occasion(directory / NETWORK_FILE)
    text = json.dumps(asdict(info), indent=2) + "\n"
    (directory / INFO_FILE).write_text(text, encoding="utf-8")


def _forget_the_occasion(path: Path) -> None:
    """Write Keras's archive anew without the time and the addresses in memory that it notes."""
    with files.replacing(path) as aside, zipfile.ZipFile(path) as noted, zipfile.ZipFile(aside, "w") as bare:
        for member in noted.infolist():
            entry = zipfile.ZipInfo(member.filename)  # of 1980, as Keras dates those that it writes itself
            entry.file_size = member.file_size
            with noted.open(member) as source, bare.open(entry, "w") as target:
                if member.filename.endswith(".json"):
                    target.write(_without_the_occasion(source.read()))
                else:
                    shutil.copyfileobj(source, target)


def _without_the_occasion(text: bytes) -> bytes:
    def bare(part: dict[str, Any]) -> dict[str, Any]:
        # The second names an address: that layers share the object that says "float32", which may as well be two.
        return {name: value for name, value in part.items() if name not in ("date_saved", "shared_object_id")}

    return json.dumps(json.loads(text, object_hook=bare)).encode()


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
