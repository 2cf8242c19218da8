"""What a run starts from: random weights, downloaded ones, a file of weights or a trained network, by its digest."""

import dataclasses
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buckler.errors import ModelError
from buckler.modality.base import UNRESTORED
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models.info import read_document
from buckler.params import FILE_PREFIX, file_of
from buckler.state import documents
from buckler.trust import digests

NONE: Final = "none"
FILE: Final = "file"
SCHEMA = 2
_KERAS_ENDING, _HDF5_ENDINGS = ".keras", (".h5", ".hdf5")
_SETTINGS = ("train.weights", "train.network")
_SHOWN = 16  # first bytes of a wrong file in the message


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """The weights before training, whatever their path.

    Attributes:
        source: ``none`` (drawn from the seed), the name of a download of the network, or ``file``.
        digest: ``sha256:...`` of a file, ``md5:...`` of a download, None if there are none.
        bytes: Size of a file.
        denoiser: ``sha256:...`` of the denoiser's weights that ``data.restore`` names, None if it names none.
    """

    source: str
    digest: str | None = None
    bytes: int | None = None
    denoiser: str | None = None
    schema: int = SCHEMA

    @property
    def identity(self) -> str:
        """Return the digest, or ``none``."""
        return self.digest or NONE

    def confirm(self, weights: str, network: str) -> str:
        """Return the path or name that the values of ``train.weights`` and ``train.network`` give, if it is still this.

        Raises:
            ModelError: The file is gone, or its content has changed.
        """
        path = file_of(network)
        setting = str(path) if path else weights
        if self.source == FILE and (found := identify(weights, network)).digest != self.digest:
            raise ModelError(
                f"{_SETTINGS[path is not None]}: expected {setting} with {self.digest}, as when this run started, got "
                f"{found.digest}; run `dvc repro` again"
            )
        return setting

    def step(self, setting: str) -> Step | None:
        """Return the restoration step that ``setting``, the value of ``data.restore``, names; None for ``none``.

        Raises:
            ModelError: There is no such step, scikit-image is not installed, or the weights are gone or have changed.
        """
        if (path := file_of(setting)) is None:
            return None if setting == UNRESTORED else table.find(setting)
        from buckler.models import denoiser  # loads TensorFlow, which takes seconds

        if (found := denoiser_of(setting)) != self.denoiser:
            raise ModelError(
                f"data.restore: expected {path} with {self.denoiser}, as when this run started, got {found}; run "
                "`dvc repro` again"
            )
        return denoiser.load(path)


def identify(setting: str, network: str) -> InitialWeights:
    """Return the weights that ``setting``, the value of ``train.weights``, names for the network ``network``.

    Raises:
        ModelError: The network has no such weights, or the file is missing, unreadable or no Keras file.
    """
    if path := file_of(network):
        return _of_network(path, setting)
    if setting == NONE:
        return InitialWeights(NONE)
    if setting.endswith((_KERAS_ENDING, *_HDF5_ENDINGS)):
        return _of_file(Path(setting))
    from buckler.models.networks import table as networks  # loads TensorFlow, which takes seconds

    pretrained = networks.find(network).pretrained
    if setting not in pretrained:
        names = ", ".join([NONE, *pretrained])
        raise ModelError(
            f"train.weights: expected {names} or a Keras file that ends in {', '.join(_HDF5_ENDINGS)} or "
            f"{_KERAS_ENDING}, got {setting!r}"
        )
    return InitialWeights(setting, f"md5:{pretrained[setting].md5}")


def denoiser_of(setting: str) -> str | None:
    """Return the digest of the file that ``setting``, the value of ``data.restore``, names; None if it names none.

    Raises:
        ModelError: The file is missing or unreadable.
    """
    if not (path := file_of(setting)):
        return None
    try:
        return digests.file_digest(path)
    except OSError as error:
        raise ModelError(
            f"data.restore: expected {FILE_PREFIX} and the path of a denoiser's weights, got {path}: {error.strerror}; "
            "correct the path"
        ) from error


def save(weights: InitialWeights, path: Path) -> None:
    """Write ``weights`` as JSON to ``path``."""
    documents.write_json(path, dataclasses.asdict(weights))


def load(path: Path) -> InitialWeights:
    """Return the weights described in ``path``.

    Raises:
        ModelError: The file is missing or malformed.
    """
    return read_document(path, InitialWeights, about="initial weights", missing="run `dvc repro`")


def _of_network(path: Path, weights: str) -> InitialWeights:
    """Return the identity of the trained network in ``path``."""
    if weights != NONE:
        raise ModelError(
            f"train.weights: expected {NONE} with train.network {FILE_PREFIX}{path}, which has its weights, got "
            f"{weights!r}"
        )
    if path.suffix != _KERAS_ENDING:
        raise ModelError(
            f"train.network: expected {FILE_PREFIX} and a network that ends in {_KERAS_ENDING}, got {str(path)!r}; "
            f"load it with the Keras that wrote it, and save it with Keras 3, `model.save('NAME{_KERAS_ENDING}')`"
        )
    return _of_file(path, is_network=True)


def _of_file(path: Path, *, is_network: bool = False) -> InitialWeights:
    setting, what = _SETTINGS[is_network], "network" if is_network else "weights file"
    try:
        with path.open("rb") as file:
            start = file.read(_SHOWN)
        size, digest = path.stat().st_size, digests.file_digest(path)
    except OSError as error:
        link = f", a link to {path.readlink()}" if path.is_symlink() else ""
        raise ModelError(
            f"{setting}: expected a Keras {what}, got {path}{link}: {error.strerror}; correct the path"
        ) from error
    if not _is_complete(path):
        kind = "zip" if path.suffix == _KERAS_ENDING else "HDF5"
        raise ModelError(
            f"{setting}: expected a complete Keras {what} ({kind}), got {path} with {size} bytes that begin "
            f"with {start!r}; get a complete copy"
        )
    return InitialWeights(FILE, digest, size)


def _is_complete(path: Path) -> bool:
    """Return whether ``path`` is a file of the format that its ending names, and not cut short."""
    if path.suffix == _KERAS_ENDING:
        return zipfile.is_zipfile(path)
    import h5py  # not installed with the service

    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False
