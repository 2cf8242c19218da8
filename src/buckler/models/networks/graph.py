"""Reads the graph of a network of unknown design: where it can be tapped, and what follows the last tap."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from buckler.models.backend import keras
from buckler.models.explanation import MAX_POOL, Pooling

MOST_TAPS = 5  # as VGG-19; the features of more would be slow to fit detectors on
# Maps of one block have sides of at least this share of each other.
SAME_BLOCK = 0.75
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
)
# Layers that show nothing which the layer before them does not.
UNTAPPED = (
    *(keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, keras.layers.GlobalAveragePooling2D),
    *(keras.layers.GlobalMaxPooling2D, keras.layers.ZeroPadding2D, keras.layers.Cropping2D, keras.layers.CenterCrop),
    *(keras.layers.UpSampling2D, keras.layers.Resizing, keras.layers.Reshape, keras.layers.Permute),
    *(keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.GaussianNoise, keras.layers.GaussianDropout),
    *(keras.layers.AlphaDropout, keras.layers.Identity, keras.layers.ActivityRegularization),
)
# Layers that do nothing to an answer, or only to the shape of flat values.
_PASSING = (
    *(keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.GaussianNoise, keras.layers.GaussianDropout),
    *(keras.layers.AlphaDropout, keras.layers.Identity, keras.layers.ActivityRegularization, keras.layers.Flatten),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a network, in an order in which every operation follows its inputs.

    Attributes:
        operation: A Keras layer or arithmetic operation.
        arguments: That it is called with: Keras tensors, numbers, or lists of them.
        output: Its Keras tensor.
        alone: Whether all that reaches the answer passes through it.
    """

    operation: Any
    arguments: tuple[Any, ...]
    output: Any
    alone: bool

    @property
    def is_map(self) -> bool:
        """Return whether its output are maps ``(batch, h, w, channels)`` of more than one place."""
        shape = self.output.shape
        return len(shape) == 4 and None not in shape[1:] and shape[1] * shape[2] > 1


def steps(network: keras.Model) -> list[Step]:
    """Return the operations of ``network``, a functional model without models inside it, inputs excluded."""
    nodes = [node for depth in sorted(network._nodes_by_depth, reverse=True) for node in network._nodes_by_depth[depth]]
    waiting = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    waiting.update(id(tensor) for tensor in network.outputs)
    live: set[int] = set()
    found = []
    for node in nodes:
        for tensor in node.input_tensors:
            waiting[id(tensor)] -= 1
            if not waiting[id(tensor)]:
                live.discard(id(tensor))
        live.update(id(tensor) for tensor in node.outputs)
        if not node.is_input:
            alone = live == {id(node.outputs[0])}
            found.append(Step(node.operation, tuple(node.arguments.args), node.outputs[0], alone))
    return found


def blocks(network: keras.Model) -> list[Step]:
    """Return the taps of ``network`` that the rule chooses: the last map of each size, before it is reduced.

    Only maps count through which everything passes, from the first convolution on; pooling and padding show nothing
    new. Of more than `MOST_TAPS`, the last ones are taken.
    """
    chosen: list[Step] = []
    first_side = 0
    for step in _after_first_convolution(steps(network)):
        if not (step.alone and step.is_map) or isinstance(step.operation, UNTAPPED):
            continue
        side = step.output.shape[1]
        if chosen and SAME_BLOCK <= side / first_side <= 1 / SAME_BLOCK:
            chosen[-1] = step
        else:
            chosen.append(step)
            first_side = side
    return chosen[-MOST_TAPS:]


def pooling_after(network: keras.Model, tap: str) -> Pooling | None:
    """Return the pooling after the layer ``tap`` if a heat map can explain exactly what follows; else None.

    That is one pooling, 2x2 maximum or mean over all places, and dense layers with ReLU after each but the last.
    """
    order = steps(network)
    place = next(place for place, step in enumerate(order) if step.operation.name == tap)
    after = order[place + 1 :]
    if not order[place].alone or not after:
        return None
    pooling = _pooling(after[0].operation)
    kinds = list(_kinds(after[1:]))
    # Dense, then any number of times ReLU and dense.
    alternating = all(kind == ("relu" if number % 2 else "dense") for number, kind in enumerate(kinds))
    return pooling if alternating and len(kinds) % 2 else None


def _after_first_convolution(order: Sequence[Step]) -> Iterator[Step]:
    started = False
    for step in order:
        started = started or isinstance(step.operation, _CONVOLUTIONS)
        if started:
            yield step


def _pooling(operation: Any) -> Pooling | None:
    if isinstance(operation, keras.layers.GlobalAveragePooling2D):
        return "mean"
    two = (MAX_POOL, MAX_POOL)
    if isinstance(operation, keras.layers.MaxPooling2D) and operation.padding == "valid":
        return "max" if tuple(operation.pool_size) == tuple(operation.strides) == two else None
    return None


def _kinds(after: Sequence[Step]) -> Iterator[str]:
    """Yield ``dense``, ``relu`` or ``other`` for each operation that computes something."""
    for step in after:
        operation = step.operation
        if isinstance(operation, keras.layers.Dense):
            yield "dense" if len(step.output.shape) == 2 else "other"
            yield from _activation(operation.activation)
        elif isinstance(operation, keras.layers.Activation):
            yield from _activation(operation.activation)
        elif isinstance(operation, keras.layers.ReLU):
            plain = operation.max_value is None and not operation.negative_slope and not operation.threshold
            yield "relu" if plain else "other"
        elif not isinstance(operation, _PASSING):
            yield "other"


def _activation(function: Any) -> Iterator[str]:
    if function is not keras.activations.linear:
        yield "relu" if function is keras.activations.relu else "other"
