"""The exported network as it serves: OpenVINO behind the one interface of a pass. Nothing here needs TensorFlow.

A model directory holds one exported network a file and, in ``runtime.json``, the precisions in which it may serve:
those that gave the reference's answers when they were held against it (`buckler.evaluation.parity`), the one that was
evaluated first, each more precise than the one before. What this processor does not multiply natively is passed
over: it would be slow, and its roundings were not looked at.
"""

import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np

from buckler.compute.machine import cpu_flags
from buckler.errors import ModelError
from buckler.modality.base import Images, check_pixels
from buckler.models.forward import Features, Forward, Logits, Maps
from buckler.models.info import read_document

# OpenVINO reports to its makers when it is imported, unless the package that does so is missing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

ServingPrecision = Literal["int8", "bfloat16", "float32"]
PRECISIONS: tuple[ServingPrecision, ...] = ("int8", "bfloat16", "float32")  # ever more precise, ever slower
INFO_FILE = "runtime.json"
SCHEMA = 1
LOGITS, FEATURES, MAPS = OUTPUTS = ("logits", "features", "maps")
# bfloat16 is float32's file, computed in another way.
FILES: dict[ServingPrecision, str] = {"int8": "int8.xml", "bfloat16": "float32.xml", "float32": "float32.xml"}
_HINTS: dict[ServingPrecision, str] = {"int8": "f32", "bfloat16": "bf16", "float32": "f32"}
# Without one of these, eight-bit products are added up in sixteen bits, which saturate: other answers.
_INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What ``runtime.json`` says.

    Attributes:
        precisions: In which the network may serve, the evaluated one first; none: it stays with Keras.
        engine: That exported it, for people.
    """

    precisions: tuple[ServingPrecision, ...]
    engine: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Refuse a list that some processor finds nothing in: float32 is what every one can do."""
        ordered = tuple(precision for precision in PRECISIONS if precision in self.precisions)
        if self.precisions != ordered or (ordered and "float32" not in ordered):
            raise ValueError(f"expected precisions of {PRECISIONS} in this order, float32 among them, got {self}")

    def save(self, directory: Path) -> None:
        """Write ``runtime.json`` into ``directory``."""
        (directory / INFO_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Runtime:
    """An exported network bound to one precision; a picture's result does not depend on its batch mates.

    Several threads may ask at once; as many passes as there are ``streams`` run side by side.

    Attributes:
        precision: That it computes in.
        image_size: Pixels a side that it takes.
        classes: Number of logits.
    """

    def __init__(self, file: Path, precision: ServingPrecision, *, streams: int = 1, threads: int | None = None):
        """Compile the network in ``file``.

        Args:
            file: As `buckler.models.export` writes it.
            precision: To compute in.
            streams: Passes side by side; each has its share of the threads.
            threads: Of all streams together; default: one for each processor this process may use.

        Raises:
            ModelError: The file is missing or damaged, or is no network with the outputs ``OUTPUTS``.
        """
        self.precision: str = precision
        try:
            model = ov.Core().read_model(file)
            names = {name for output in model.outputs for name in output.names}
            if not names.issuperset(OUTPUTS):
                raise ModelError(f"{file}: expected a network with the outputs {OUTPUTS}, got {sorted(names)}")
            compiled = ov.compile_model(model, "CPU", _settings(precision, streams, threads))
        except RuntimeError as error:
            raise ModelError(f"{file} cannot be loaded as an exported network: {error}") from error
        self._compiled, self._shape = compiled, tuple(compiled.input(0).shape)[1:]
        self.image_size, self.classes = self._shape[0], int(compiled.output(LOGITS).shape[1])
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        flags: Collection[str] | None = None,
        precision: ServingPrecision | None = None,
        **settings: Any,
    ) -> "Runtime":
        """Return what serves of the model in ``directory`` on this processor.

        Args:
            directory: A model's, with ``runtime.json`` and the files it speaks of.
            flags: The processor's, as ``/proc/cpuinfo`` names them; default: this one's.
            precision: Instead of the first that the processor multiplies natively.
            settings: As the constructor takes them.

        Raises:
            ModelError: A file is missing, damaged or of another schema.
        """
        precisions = load_info(directory).precisions
        if not precisions:
            raise ModelError(f"{directory / INFO_FILE}: the network was not exported; load it with Keras")
        chosen = precision or choose(precisions, flags)
        return cls(directory / FILES[chosen], chosen, **settings)

    def forward(self, images: Images, progress: Callable[[int], object] | None = None) -> Forward:
        """Return logits and features of ``images`` (batch, size, size, 3); ``progress`` is told what is done."""
        logits, features = (self._empty(name, len(images)) for name in (LOGITS, FEATURES))
        for place, picture in enumerate(self._checked(images)):
            logits[place], features[place] = self._ask(picture, (LOGITS, FEATURES))
            if progress:
                progress(1)
        return Forward(logits, features)

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, size, size, 3)`` in 0..1."""
        return self.forward(images).logits

    def maps(self, picture: Images) -> Maps:
        """Return the last convolution's maps ``(h, w, channels)`` of one picture, ``(size, size, 3)`` in 0..1."""
        (pixels,) = self._checked(picture[None])
        (maps,) = self._ask(pixels, (MAPS,))
        return maps

    def _checked(self, images: Images) -> Images:
        check_pixels(images)
        if images.shape[1:] != self._shape:
            raise ValueError(f"expected images of shape {('batch', *self._shape)}, got {images.shape}")
        return np.ascontiguousarray(images, np.float32)

    def _ask(self, picture: Images, names: Sequence[str]) -> list[Features]:
        request = self._free.get()
        try:
            request.infer({0: picture[None]}, share_inputs=True)
            return [request.get_tensor(name).data[0].copy() for name in names]
        finally:
            self._free.put(request)

    def _empty(self, name: str, count: int) -> Features:
        return np.empty((count, *self._compiled.output(name).shape[1:]), np.float32)


def load_info(directory: Path) -> RuntimeInfo:
    """Return what is said of the exported network in ``directory``.

    Raises:
        ModelError: The file is missing, malformed or of another schema.
    """
    path = directory / INFO_FILE
    info = read_document(path, RuntimeInfo, about="an exported network", missing="`dvc repro export` writes it")
    if info.schema != SCHEMA:
        raise ModelError(f"{path}: expected schema {SCHEMA}, got {info.schema}")
    return info


def is_exported(directory: Path) -> bool:
    """Return whether ``directory`` holds an exported network; one with random layers, or an older one, does not.

    Raises:
        ModelError: As `load_info`, unless the file is missing.
    """
    return (directory / INFO_FILE).exists() and bool(load_info(directory).precisions)


def offered(directory: Path) -> tuple[ServingPrecision, ...]:
    """Return in which precisions the exported network in ``directory`` may serve here; none where there is no such."""
    if not is_exported(directory):
        return ()
    return tuple(precision for precision in load_info(directory).precisions if precision in native())


def native(flags: Collection[str] | None = None) -> tuple[ServingPrecision, ...]:
    """Return the precisions that a processor with these flags (default: this one) multiplies natively."""
    has = cpu_flags() if flags is None else flags
    needs = {"int8": _INT8_FLAGS, "bfloat16": _BFLOAT16_FLAGS}
    return tuple(p for p in PRECISIONS if p not in needs or not needs[p].isdisjoint(has))


def choose(precisions: Collection[ServingPrecision], flags: Collection[str] | None = None) -> ServingPrecision:
    """Return the first of ``precisions`` that a processor with these flags multiplies natively."""
    return next(p for p in native(flags) if p in precisions)


def _settings(precision: ServingPrecision, streams: int, threads: int | None) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        # Several workers would all be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
