"""The reference network on disk, in Keras format, which stages train, attack and export; no pickle, no code."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.modality.picture.restoration.base import Step
from buckler.models import archive
from buckler.models.backend import keras
from buckler.models.denoiser import Denoiser
from buckler.models.info import INFO_FILE, save_info
from buckler.models.info import ModelInfo as ModelInfo
from buckler.models.info import load_info as load_info
from buckler.models.networks import table
from buckler.models.restored import WEIGHTS_FILE
from buckler.state import files
from buckler.state.locations import Location

NETWORK_FILE = "classifier.keras"


def save(network: keras.Model, info: ModelInfo, directory: Path, step: Step | None = None) -> None:
    """Write ``network`` and ``info`` into ``directory``, creating it if necessary.

    Equal networks give equal bytes, so that digests of repeated trainings can be compared.

    Args:
        network: The network.
        info: Its description.
        directory: Where to.
        step: The restoration step before it, whose weights are written beside it if it has some.
    """
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    _drop_volatile(directory / NETWORK_FILE)
    save_info(info, directory)
    if isinstance(step, Denoiser):
        step.save(directory / WEIGHTS_FILE)


def _drop_volatile(path: Path) -> None:
    """Rewrite Keras's archive without its time stamps and memory addresses."""
    with files.replacing(path) as aside, zipfile.ZipFile(path) as old, zipfile.ZipFile(aside, "w") as new:
        for member in old.infolist():
            entry = zipfile.ZipInfo(member.filename)  # dated 1980, like Keras's entries
            entry.file_size = member.file_size
            with old.open(member) as source, new.open(entry, "w") as target:
                if member.filename.endswith(".json"):
                    target.write(_without_volatile(source.read()))
                else:
                    shutil.copyfileobj(source, target)


def _without_volatile(text: bytes) -> bytes:
    def bare(part: dict[str, Any]) -> dict[str, Any]:
        # shared_object_id is a memory address; it only marks layers that share a dtype object.
        return {name: value for name, value in part.items() if name not in ("date_saved", "shared_object_id")}

    return json.dumps(json.loads(text, object_hook=bare)).encode()


def load_network(directory: Location) -> keras.Model:
    """Return the float32 network saved in ``directory``; code inside the file is never run.

    The file is read once, into memory; Keras gets its content and never its path.

    Raises:
        ModelError: The file is missing or damaged, does not fit ``model.json``, has an unknown architecture, or
            weights that are not finite.
    """
    info, path = load_info(directory), directory / NETWORK_FILE
    table.check(info.architecture)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be loaded as a Keras network: {error}") from error
    network = archive.load(content, path).network
    expected = (info.architecture, *info.shape, len(info.labels))
    found = (network.name, *network.input_shape[1:], network.output_shape[-1])
    if found != expected:
        raise ModelError(f"{path}: expected network, input and classes {expected} as in {INFO_FILE}, got {found}")
    return network
