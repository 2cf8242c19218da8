"""Runs the exported network with OpenVINO, without TensorFlow.

A model directory contains the exported network in several precisions, one per file. ``runtime.json`` lists the
precisions that may serve: those whose answers agree with the reference network (`buckler.evaluation.parity`), from the
least precise, which the gate evaluated, to the most precise. A precision that the processor does not multiply natively
is skipped: it would be slow, and its rounding has not been evaluated.
"""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from buckler.compute.machine import cpu_flags
from buckler.errors import ModelError
from buckler.modality.base import Images, check_pixels
from buckler.models.finite import check_finite
from buckler.models.forward import Features, Forward, Logits
from buckler.models.info import read_document
from buckler.state.locations import Location

# OpenVINO sends telemetry when it is imported, unless this package is missing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino as ov  # noqa: E402

ServingPrecision = Literal["int8", "bfloat16", "float32"]
PRECISIONS: tuple[ServingPrecision, ...] = ("int8", "bfloat16", "float32")  # from the fastest to the most precise
INFO_FILE = "runtime.json"
SCHEMA = 1
LOGITS, FEATURES, MAPS = OUTPUTS = ("logits", "features", "maps")
# bfloat16 uses float32's file; OpenVINO converts it.
FILES: dict[ServingPrecision, str] = {"int8": "int8.xml", "bfloat16": "float32.xml", "float32": "float32.xml"}
WEIGHTS_SUFFIX = ".bin"  # of the weights beside each of FILES
_HINTS: dict[ServingPrecision, str] = {"int8": "f32", "bfloat16": "bf16", "float32": "f32"}
# Processors without these flags sum eight-bit products in sixteen bits, which saturate and change the answers.
_INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni"})
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """Content of ``runtime.json``.

    Attributes:
        precisions: Precisions that may serve, the evaluated one first; empty: only Keras may serve the network.
        engine: Name and version of the exporting engines, for people.
    """

    precisions: tuple[ServingPrecision, ...]
    engine: str
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Reject a list in another order or without float32, which every processor supports."""
        ordered = tuple(precision for precision in PRECISIONS if precision in self.precisions)
        if self.precisions != ordered or (ordered and "float32" not in ordered):
            raise ValueError(f"expected precisions of {PRECISIONS} in this order, float32 among them, got {self}")

    def save(self, directory: Path) -> None:
        """Write ``runtime.json`` into ``directory``."""
        (directory / INFO_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Runtime:
    """An exported network in one precision; a picture's result does not depend on the other pictures of its batch.

    Threads may share it; as many passes as there are ``streams`` run in parallel. It keeps no file open or mapped: what
    happens to the files afterwards does not change its answers.

    Attributes:
        precision: Number format of the computation.
        shape: Of an input.
        classes: Number of logits.
    """

    def __init__(
        self, file: Location, precision: ServingPrecision, *, streams: int = 1, threads: int | None = None
    ) -> None:
        """Compile the network in ``file``.

        Args:
            file: Written by `buckler.models.export`; its weights are beside it.
            precision: Number format of the computation.
            streams: Number of parallel passes, which share the threads.
            threads: Number of threads of all streams; default: one for each processor that this process may use.

        Raises:
            ModelError: The file is missing or damaged, the network lacks an output of ``OUTPUTS``, or some weights are
                not finite.
        """
        self.precision: str = precision
        try:
            # From memory: OpenVINO would map a file, and its answers would change with it.
            model = ov.Core().read_model(file.read_bytes(), file.with_suffix(WEIGHTS_SUFFIX).read_bytes())
            names = {name for output in model.outputs for name in output.names}
            if not names.issuperset(OUTPUTS):
                raise ModelError(f"{file}: expected a network with the outputs {OUTPUTS}, got {sorted(names)}")
            check_finite(_constants(model), file)
            compiled = ov.compile_model(model, "CPU", settings(precision, streams, threads))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{file} cannot be loaded as an exported network: {error}") from error
        self._compiled, self.shape = compiled, tuple(compiled.input(0).shape)[1:]
        self.classes = int(compiled.output(LOGITS).shape[1])
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    @classmethod
    def load(
        cls,
        directory: Location,
        *,
        flags: Collection[str] | None = None,
        precision: ServingPrecision | None = None,
        **settings: Any,
    ) -> "Runtime":
        """Return the exported network in ``directory``, in the first allowed precision that this processor has.

        Args:
            directory: Contains ``runtime.json`` and the exported files.
            flags: Processor flags as in ``/proc/cpuinfo``; default: those of this processor.
            precision: Overrides the choice.
            settings: ``streams`` and ``threads`` of the constructor.

        Raises:
            ModelError: A file is missing, damaged or of another schema.
        """
        precisions = load_info(directory).precisions
        if not precisions:
            raise ModelError(f"{directory / INFO_FILE}: the network was not exported; load it with Keras")
        chosen = precision or choose(precisions, flags)
        return cls(directory / FILES[chosen], chosen, **settings)

    def forward(
        self, images: Images, progress: Callable[[int], object] | None = None, *, maps: bool = False
    ) -> Forward:
        """Return logits and features of ``images``, and with ``maps`` the last tap's maps of the same pass.

        Args:
            images: ``(batch, size, size, 3)`` float32 in 0..1.
            progress: Receives 1 per picture.
            maps: Whether to return the maps; the network computes them in any case.
        """
        names = OUTPUTS if maps else (LOGITS, FEATURES)
        outputs = [self._empty(name, len(images)) for name in names]
        for place, picture in enumerate(self._checked(images)):
            for output, value in zip(outputs, self._infer(picture, names), strict=True):
                output[place] = value
            if progress:
                progress(1)
        return Forward(*outputs)

    def logits(self, images: Images) -> Logits:
        """Return ``(batch, classes)`` for pixels ``(batch, size, size, 3)`` in 0..1."""
        return self.forward(images).logits

    def _checked(self, images: Images) -> Images:
        check_pixels(images)
        if images.shape[1:] != self.shape:
            raise ValueError(f"expected images of shape {('batch', *self.shape)}, got {images.shape}")
        return np.ascontiguousarray(images, np.float32)

    def _infer(self, picture: Images, names: Sequence[str]) -> list[Features]:
        request = self._free.get()
        try:
            request.infer({0: picture[None]}, share_inputs=True)
            return [request.get_tensor(name).data[0].copy() for name in names]
        finally:
            self._free.put(request)

    def _empty(self, name: str, count: int) -> Features:
        return np.empty((count, *self._compiled.output(name).shape[1:]), np.float32)


def _constants(model: ov.Model) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """Yield the name and the values of every constant of real numbers; integers cannot be wrong."""
    for operation in model.get_ops():
        if operation.get_type_name() == "Constant" and operation.get_element_type().is_real():
            yield operation.get_friendly_name(), operation.get_data(dtype=np.float32)


def load_info(directory: Location) -> RuntimeInfo:
    """Return the content of ``runtime.json`` in ``directory``.

    Raises:
        ModelError: The file is missing, malformed or of another schema.
    """
    path = directory / INFO_FILE
    info = read_document(path, RuntimeInfo, about="an exported network", missing="`dvc repro export` writes it")
    if info.schema != SCHEMA:
        raise ModelError(f"{path}: expected schema {SCHEMA}, got {info.schema}")
    return info


def is_exported(directory: Location) -> bool:
    """Return whether ``directory`` contains an exported network that may serve.

    Networks with random layers, and releases from before there was an export, have none.

    Raises:
        ModelError: As `load_info`, unless the file is missing.
    """
    return (directory / INFO_FILE).exists() and bool(load_info(directory).precisions)


def offered(directory: Location) -> tuple[ServingPrecision, ...]:
    """Return the precisions in which this processor may serve the network in ``directory``; empty if not exported."""
    if not is_exported(directory):
        return ()
    return tuple(precision for precision in load_info(directory).precisions if precision in native())


def native(flags: Collection[str] | None = None) -> tuple[ServingPrecision, ...]:
    """Return the precisions that a processor with ``flags`` (default: this one) multiplies natively."""
    has = cpu_flags() if flags is None else flags
    needs = {"int8": _INT8_FLAGS, "bfloat16": _BFLOAT16_FLAGS}
    return tuple(p for p in PRECISIONS if p not in needs or not needs[p].isdisjoint(has))


def choose(precisions: Collection[ServingPrecision], flags: Collection[str] | None = None) -> ServingPrecision:
    """Return the fastest of ``precisions`` that a processor with ``flags`` (default: this one) multiplies natively."""
    return next(p for p in native(flags) if p in precisions)


def settings(precision: ServingPrecision, streams: int, threads: int | None) -> dict[str, Any]:
    """Return how OpenVINO compiles a network; the arguments are those of `Runtime`."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        # With pinning, several worker processes would share the same cores.
        "ENABLE_CPU_PINNING": False,
    }
