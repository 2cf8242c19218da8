"""Somebody else's trained network, from a Keras file, as a network of this product.

The network is copied layer by layer: models inside it are dissolved, augmentation, which does nothing to an answer, is
left out, a softmax at the end is taken off, and its taps are marked by layers of the product, so that whoever loads the
copy finds them without the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from buckler.errors import ModelError
from buckler.models import archive
from buckler.models.backend import keras
from buckler.models.networks import graph
from buckler.models.networks.graph import Step
from buckler.models.networks.layout import Layout, Tap
from buckler.models.randomised import RandomisedInput

NAME = "file"
INPUT = "images"
SMALLEST_FACTOR = 0.02  # a network that begins by multiplying by less expects 0..255: 1 / 127.5 is 0.008
_AUGMENTATION = (
    *(keras.layers.RandomFlip, keras.layers.RandomRotation, keras.layers.RandomZoom, keras.layers.RandomTranslation),
    *(keras.layers.RandomContrast, keras.layers.RandomBrightness),
)

Shape = tuple[int, ...]


@keras.saving.register_keras_serializable(package="buckler")
class TapPoint(keras.layers.Layer):  # type: ignore[misc]
    """Marks maps as a tap; changes nothing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, maps: Any) -> Any:
        """Return ``maps``."""
        return maps

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


@dataclass(frozen=True, slots=True)
class FileNetwork:
    """A network from a file, ready to be attacked, exported and served.

    Attributes:
        network: Pixels ``(batch, s, s, 3)`` in 0..1 to logits, called `NAME`.
        notes: What was changed and chosen, one sentence each, for the person who runs the stage.
    """

    network: keras.Model
    notes: tuple[str, ...]


def load(
    path: Path,
    shape: Shape,
    *,
    classes: int | None = None,
    taps: Sequence[str] = (),
    before: keras.layers.Layer | None = None,
) -> FileNetwork:
    """Return the network in ``path``; no code in the file is run.

    Args:
        path: Written by Keras 3, ``model.save("NAME.keras")``.
        shape: Of one record.
        classes: Number of labels; None if they are not yet known.
        taps: Names of layers whose maps give the features, first to last; empty: `buckler.models.networks.graph.blocks`
            chooses.
        before: A layer in front of the network; its output has the shape of its input.

    Raises:
        ModelError: The file cannot be used; the message says why and what to do.
    """
    loaded = archive.load(_content(path), path)
    source = loaded.network
    _check_ends(source, shape, classes, path)
    notes = ["layers of 16 bits compute in 32, as their weights are stored"] if loaded.mixed else []
    copier = _Copier(path)
    with archive.one_error(path):
        flat = copier.copied(source, shape)
    if copier.left_out:
        notes.append(f"left out, as they do nothing to an answer: {', '.join(copier.left_out)}")
    order = graph.steps(flat)
    _check_scale(order, path)
    last = order[-1].operation
    softmax = last.name if _ends_in_softmax(last, path) else ""
    if softmax:
        notes.append(f"the softmax of {last.name} was taken off: attacks and detectors need logits")
    chosen = _named(order, taps, path) if taps else graph.blocks(flat)
    if not chosen:
        raise ModelError(
            f"{path}: expected convolutions with maps of more than one place, which the detectors read, got none "
            "through which all of the answer passes; name layers in train.taps, or use another network"
        )
    marks = {step.operation.name: number for number, step in enumerate(chosen, start=1)}
    with archive.one_error(path):
        network = _Copier(path, marks=marks, without_softmax=softmax).copied(flat, shape, before)
    layout = layout_of(network)
    shown = (f"{step.operation.name} {'x'.join(map(str, step.output.shape[1:]))}" for step in chosen)
    notes.append(f"taps: {', '.join(shown)}")
    if layout.pooling is None:
        notes.append("no heat maps: after the last tap come other layers than one pooling and dense layers")
    return FileNetwork(network, tuple(notes))


def layout_of(network: keras.Model) -> Layout:
    """Return where detectors and heat maps read ``network``, which `load` made, however often it was saved and copied.

    The detector searches the last three taps for traces, predicts the logits from those of them before the last, and
    compares with the training pictures in the tap before the last. With one tap, it is used for all three.

    Raises:
        ModelError: It has no taps.
    """
    marks = [layer for layer in network.layers if isinstance(layer, TapPoint)]
    marks.sort(key=lambda layer: int(layer.name.rpartition("_")[2]))
    if not marks:
        raise ModelError(f"expected a network {NAME} with taps, got none; take it in again with `dvc repro`")
    last = len(marks) - 1
    searched = tuple(range(max(0, last - 2), last + 1))
    return Layout(
        name=NAME,
        title="a network from a file",
        taps=tuple(Tap(layer.name, int(layer.output.shape[-1])) for layer in marks),
        pooling=graph.pooling_after(network, marks[-1].name),
        trace_taps=searched,
        probe_taps=searched[:-1] or searched,
        cloud_tap=max(0, last - 1),
    )


def _content(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > archive.MAX_BYTES:
            raise ModelError(f"{path}: expected at most {archive.MAX_BYTES} bytes, got {size}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"train.network: expected a Keras file, got {path}: {error.strerror}; correct the path"
        ) from error


def _check_ends(network: keras.Model, shape: Shape, classes: int | None, path: Path) -> None:
    """Check the input and the output of ``network``.

    Raises:
        ModelError: They do not fit the records and labels.
    """
    if not network.built or len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelError(
            f"{path}: expected one input and one output, got {len(network.inputs or ())} and "
            f"{len(network.outputs or ())}; build a functional model of the part that maps pictures to logits"
        )
    found, answers = tuple(network.inputs[0].shape)[1:], tuple(network.outputs[0].shape)[1:]
    if len(found) != len(shape) or any(ours not in (None, side) for ours, side in zip(found, shape, strict=False)):
        raise ModelError(
            f"{path}: expected an input of {_sides(shape)}, as data.image_size says, got {_sides(found)}; set "
            "data.image_size to the network's, or use another network"
        )
    if len(answers) == 1 and answers[0] == 1:
        raise ModelError(
            f"{path}: expected one output for each label, got one alone; replace the last layer by one with two "
            "outputs (docs/how-to/own-network.md shows how, without training)"
        )
    if len(answers) != 1 or answers[0] is None or (classes is not None and answers[0] != classes):
        raise ModelError(
            f"{path}: expected {classes or 'one'} outputs{'' if classes else ' for each label'}, in the alphabetical "
            f"order of the labels, got an output of {_sides(answers)}; use the labels that it was trained for"
        )


def _sides(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)


def _check_scale(order: Sequence[Step], path: Path) -> None:
    """Refuse a network that begins by dividing pixels by 255 or so: 0..1 would be almost black to it."""
    first = next((step for step in order if not isinstance(step.operation, graph.UNTAPPED)), None)
    scale = abs(_factor(first)) if first else 1.0
    if first and scale < SMALLEST_FACTOR:
        raise ModelError(
            f"{path}: expected a network for pixels in 0..1, got one that begins by multiplying them by {scale:.3g} "
            f"({first.operation.name}), as for 0..255; put keras.layers.Rescaling(255.0) in front of it "
            "(docs/how-to/own-network.md shows how)"
        )


def _factor(step: Step) -> float:
    """Return the number by which ``step`` multiplies; 1 if it does something else."""
    operation, number = step.operation, step.arguments[-1] if step.arguments else None
    if isinstance(operation, keras.layers.Rescaling):
        return float(operation.scale) if isinstance(operation.scale, int | float) else 1.0
    if not isinstance(number, int | float) or not number:
        return 1.0
    kind = type(operation).__name__
    return 1 / number if kind in ("TrueDivide", "Divide") else number if kind == "Multiply" else 1.0


def _ends_in_softmax(last: Any, path: Path) -> bool:
    """Return whether ``last``, the last layer, ends in a softmax, which can be taken off.

    Raises:
        ModelError: It ends in another function, which logits do not have.
    """
    function = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or function is keras.activations.softmax:
        return True
    own = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)
    if isinstance(last, own) or function not in (None, keras.activations.linear, keras.activations.log_softmax):
        raise ModelError(
            f"{path}: expected logits, one for each of labels that exclude each other, got the output of {last.name} "
            f"through {getattr(function, '__name__', type(last).__name__)}; train the last layer with softmax, which "
            "is taken off, or without an activation"
        )
    return False


def _named(order: Sequence[Step], taps: Sequence[str], path: Path) -> list[Step]:
    """Return the steps called ``taps``.

    Raises:
        ModelError: One is missing, used twice or has no maps, or their order is another.
    """
    steps = {step.operation.name: step for step in order if step.is_map}
    counts = [sum(step.operation.name == tap for step in order) for tap in taps]
    if unknown := [tap for tap in taps if tap not in steps]:
        raise ModelError(
            f"train.taps: expected layers of {path} with maps, of which it has {', '.join(steps)}, got "
            f"{', '.join(unknown)}"
        )
    places = [next(i for i, step in enumerate(order) if step.operation.name == tap) for tap in taps]
    if places != sorted(set(places)) or max(counts) > 1:
        raise ModelError(
            f"train.taps: expected different layers, each used once, first to last, got {', '.join(taps)}; "
            f"the order in {path} is {', '.join(steps)}"
        )
    return [steps[tap] for tap in taps]


class _Copier:
    """Copies a network layer by layer into one without models inside it.

    Attributes:
        left_out: Names of the layers that were left out.
    """

    def __init__(self, path: Path, *, marks: Mapping[str, int] | None = None, without_softmax: str = "") -> None:
        """Set what changes.

        Args:
            path: Named in errors.
            marks: Name of a layer -> number of the tap behind it.
            without_softmax: Name of the layer whose softmax is taken off.
        """
        self._path, self._marks, self._without_softmax = path, marks or {}, without_softmax
        self._copies: dict[int, tuple[Any, Any]] = {}  # by the identity of the original, which it also keeps alive
        self._names: set[str] = {INPUT, *(f"tap_{number}" for number in self._marks.values())}
        self.left_out: list[str] = []

    def copied(self, network: keras.Model, shape: Shape, before: keras.layers.Layer | None = None) -> keras.Model:
        """Return the copy of ``network``, with the layer ``before`` in front."""
        pixels = keras.Input(shape, name=INPUT)
        if before is not None:
            self._names.add(before.name)
        copy = keras.Model(pixels, self._run(network, pixels if before is None else before(pixels)), name=NAME)
        for original, layer in self._copies.values():
            if isinstance(layer, keras.layers.Layer) and layer.weights:
                layer.set_weights(original.get_weights())
        return copy

    def _run(self, network: keras.Model, values: Any) -> Any:
        functional = getattr(network, "_functional", None) or network
        found = functional._run_through_graph(values, operation_fn=lambda operation: partial(self._call, operation))
        return found[0] if isinstance(found, list | tuple) and len(found) == 1 else found

    def _call(self, operation: Any, *arguments: Any, **settings: Any) -> Any:
        if isinstance(operation, keras.Model):
            return self._run(operation, arguments[0])
        if isinstance(operation, _AUGMENTATION) and operation.name not in self.left_out:
            self.left_out.append(operation.name)
        if isinstance(operation, (*_AUGMENTATION, TapPoint)) or self._is_only_softmax(operation):
            return arguments[0]
        if (
            settings.pop("training", None)
            or any(each is True for each in arguments)
            or isinstance(operation, RandomisedInput)
        ):
            raise self._random(operation)
        value = self._copy(operation)(*arguments, **settings)
        mark = self._marks.get(operation.name)
        return value if mark is None else TapPoint(name=f"tap_{mark}")(value)

    def _random(self, operation: Any) -> ModelError:
        return ModelError(
            f"{self._path}: expected the same answer to the same picture, got {operation.name}, which is random or in"
            " training mode whenever the network answers; call it without training=True, and save the network again"
        )

    def _is_only_softmax(self, operation: Any) -> bool:
        softmaxes = (keras.layers.Softmax, keras.layers.Activation)
        return operation.name == self._without_softmax and isinstance(operation, softmaxes)

    def _copy(self, operation: Any) -> Any:
        if id(operation) not in self._copies:
            config = {**operation.get_config(), "name": self._unique(operation.name)}
            if operation.name == self._without_softmax:
                config["activation"] = "linear"
            if isinstance(operation, keras.layers.Normalization):  # what it adapted to is lost in copies of a copy
                config |= {part: np.asarray(getattr(operation, part)).ravel().tolist() for part in ("mean", "variance")}
            self._copies[id(operation)] = (operation, type(operation).from_config(config))
        return self._copies[id(operation)][1]

    def _unique(self, name: str) -> str:
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found
