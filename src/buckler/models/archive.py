"""Opens a Keras archive (``.keras``) whose author nobody knows: its size is bounded, and no code in it is run.

The description and the weights are read, checked and written into a new archive in memory, and only that one is given
to Keras: what was checked is what is loaded.
"""

import io
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from buckler.errors import ModelError
from buckler.models import allowed
from buckler.models.backend import keras
from buckler.models.finite import check_finite

CONFIG, METADATA, WEIGHTS = MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
MAX_BYTES = 2 << 30  # of all members, unpacked
MAX_TEXT_BYTES = 32 << 20  # of config.json and metadata.json
MAX_ENTRIES = 100_000  # groups and arrays in the file of weights
MAX_OUTPUT = 1 << 28  # numbers in the output of one layer for one record: a gigabyte


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network from an archive.

    Attributes:
        network: As it is described, in float32.
        mixed: Whether it was trained to compute in 16 bits.
    """

    network: keras.Model
    mixed: bool


def load(content: bytes, file: object) -> Loaded:
    """Return the network of the archive ``content``, without its optimiser.

    Args:
        content: Of the file.
        file: Named in errors.

    Raises:
        ModelError: It is no complete archive, too large, names something that is not on the list of
            `buckler.models.allowed`, cannot be built, or its weights are missing or not finite.
    """
    members = _members(content, file)
    described = allowed.checked(_parsed(members[CONFIG], file), file, _own_layers())
    members[CONFIG] = json.dumps(described.config).encode()
    _check_size(described.config, _stored_numbers(members[WEIGHTS], file), file)
    again = io.BytesIO()
    with zipfile.ZipFile(again, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    again.seek(0)
    with one_error(file), warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping nested container")  # of weights that would stay random
        # `keras.saving.load_model` accepts only paths.
        network = keras.src.saving.saving_lib.load_model(again, compile=False, safe_mode=True)
    check_finite(((weight.path, weight.numpy()) for weight in network.weights), file)
    return Loaded(network, described.mixed)


def _own_layers() -> frozenset[str]:
    return frozenset(name for name in keras.saving.get_custom_objects() if name.startswith("buckler>"))


@contextmanager
def one_error(file: object) -> Iterator[None]:
    """Make one `ModelError` about ``file`` of whatever Keras raises while it builds or copies a network."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # Keras raises many types; each means that the file is unusable
        reason = " ".join(str(error).split())[:500]
        raise ModelError(
            f"{file} cannot be loaded as a Keras network: {reason}; get a complete copy, or change the network"
        ) from error


def _members(content: bytes, file: object) -> dict[str, bytes]:
    """Return the members of the archive; no other ones than Keras writes for the layers of the list."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if sorted(entry.filename for entry in entries) != list(MEMBERS):
                names = ", ".join(repr(entry.filename) for entry in entries[:5])
                raise ModelError(
                    f"{file}: expected a Keras archive of {', '.join(MEMBERS)}, got {len(entries)} members ({names}); "
                    "save the network again with Keras 3, `model.save('NAME.keras')`, without layers that need files"
                )
            sizes = {entry.filename: entry.file_size for entry in entries}
            texts = sizes[CONFIG] + sizes[METADATA]
            for what, size, most in (("text", texts, MAX_TEXT_BYTES), ("content", sum(sizes.values()), MAX_BYTES)):
                if size > most:
                    raise ModelError(f"{file}: expected at most {most} bytes of {what}, unpacked, got {size}")
            return {name: archive.read(name) for name in MEMBERS}
    # What zipfile raises: BadZipFile, zlib.error, EOFError and OSError for a damaged archive, NotImplementedError for a
    # method of compression that it lacks, RuntimeError for an encrypted member.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(f"{file} cannot be loaded as a Keras network: {error}; get a complete copy") from error


def _parsed(text: bytes, file: object) -> Any:
    def refuse(number: str) -> None:
        raise ValueError(f"got the number {number}")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file}: expected JSON in {CONFIG}: {error}; get a complete copy") from error


def _stored_numbers(content: bytes, file: object) -> int:
    """Return how many numbers the file of weights has; refuse one that refers to other files, or claims too many."""
    import h5py  # not installed with the service

    try:
        with h5py.File(io.BytesIO(content), "r") as weights:
            total = sum(size for size in _sizes(weights, h5py))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file}: expected HDF5 with plain arrays of numbers in {WEIGHTS}: {error}; get a complete copy"
        ) from error
    if total > MAX_BYTES // 4:
        raise ModelError(f"{file}: expected at most {MAX_BYTES // 4} numbers in {WEIGHTS}, got {total}")
    return total


def _sizes(weights: Any, h5py: Any) -> Iterator[int]:
    """Yield the number of numbers in each array below the group ``weights``.

    Raises:
        ValueError: There are links, arrays of something else or in other files, or too many entries.
    """
    seen: set[int] = set()
    groups = [weights]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} links to another place")
            entry = group[name]
            place = h5py.h5o.get_info(entry.id).addr
            if place in seen or len(seen) == MAX_ENTRIES:
                raise ValueError(f"{name} is there twice, or one of more than {MAX_ENTRIES}")
            seen.add(place)
            if isinstance(entry, h5py.Group):
                groups.append(entry)
            elif entry.external or entry.is_virtual or entry.dtype.kind not in "fiub":
                raise ValueError(f"{name} is no array of numbers in this file")
            else:
                yield entry.size


def _check_size(config: dict[str, Any], stored: int, file: object) -> None:
    """Refuse a network with more weights than the file has, or with a huge output, before memory is taken for it.

    ``config`` is used up.
    """
    # Without initialisation, variables have a shape and no content.
    with one_error(file), keras.StatelessScope(initialize_variables=False):
        network = keras.saving.deserialize_keras_object(config, safe_mode=True)
        needed = sum(math.prod(weight.shape) for weight in network.weights)
        largest = max((math.prod(shape) for shape in _outputs(network)), default=0)
    if needed > stored:
        raise ModelError(
            f"{file}: expected at least {needed} numbers in {WEIGHTS}, as {CONFIG} describes the network, got {stored};"
            " get a complete copy"
        )
    if largest > MAX_OUTPUT:
        raise ModelError(f"{file}: expected layers with outputs of at most {MAX_OUTPUT} numbers, got {largest}")


def _outputs(network: keras.Model) -> Iterator[list[int]]:
    """Yield the known sides of each output of each layer, nested ones included."""
    functional = getattr(network, "_functional", None) or network
    for operation in getattr(functional, "operations", ()):
        if isinstance(operation, keras.Model):
            yield from _outputs(operation)
        for node in operation._inbound_nodes:
            yield from ([side for side in output.shape if side] for output in node.outputs)
