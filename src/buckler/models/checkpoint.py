"""The reference network on disk, in Keras format: trained, attacked and exported. No pickle, no code."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.models.backend import keras
from buckler.models.info import INFO_FILE, save_info
from buckler.models.info import ModelInfo as ModelInfo
from buckler.models.info import load_info as load_info
from buckler.models.networks import table
from buckler.models.randomised import RandomisedInput
from buckler.state import files

NETWORK_FILE = "classifier.keras"
# Besides Keras's own layers and those that the networks of the table register.
_LAYERS = {"buckler>RandomisedInput": RandomisedInput}


def save(network: keras.Model, info: ModelInfo, directory: Path) -> None:
    """Write ``network`` and ``info`` into ``directory``, which is made if missing.

    The same network gives the same bytes whenever it is saved, so digests of repeated trainings can be compared.
    """
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    _drop_volatile(directory / NETWORK_FILE)
    save_info(info, directory)


def _drop_volatile(path: Path) -> None:
    """Rewrite Keras's archive without the times and memory addresses that it stores."""
    with files.replacing(path) as aside, zipfile.ZipFile(path) as noted, zipfile.ZipFile(aside, "w") as bare:
        for member in noted.infolist():
            entry = zipfile.ZipInfo(member.filename)  # dated 1980, as Keras dates its own
            entry.file_size = member.file_size
            with noted.open(member) as source, bare.open(entry, "w") as target:
                if member.filename.endswith(".json"):
                    target.write(_without_volatile(source.read()))
                else:
                    shutil.copyfileobj(source, target)


def _without_volatile(text: bytes) -> bytes:
    def bare(part: dict[str, Any]) -> dict[str, Any]:
        # The second is a memory address: it only says that layers share their dtype object.
        return {name: value for name, value in part.items() if name not in ("date_saved", "shared_object_id")}

    return json.dumps(json.loads(text, object_hook=bare)).encode()


def load_network(directory: Path) -> keras.Model:
    """Return the float32 network saved in ``directory``; code inside the file is never run.

    Raises:
        ModelError: The file is missing, damaged, or does not fit ``model.json``, or its network is unknown.
    """
    info, path = load_info(directory), directory / NETWORK_FILE
    architecture = table.find(info.architecture)
    try:
        network: Any = keras.saving.load_model(path, _LAYERS, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds; each means that the file is unusable
        raise ModelError(f"{path} cannot be loaded as a Keras network: {error}") from error
    expected = (architecture.name, *info.shape, len(info.labels))
    found = (network.name, *network.input_shape[1:], network.output_shape[-1])
    if found != expected:
        raise ModelError(f"{path}: expected network, input and classes {expected} as in {INFO_FILE}, got {found}")
    return network
