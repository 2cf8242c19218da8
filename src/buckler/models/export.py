"""Exports a Keras network for serving: in float32, and in eight bits calibrated on training pictures.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
arXiv 1712.05877, for quantisation after training; NNCF computes it.
"""

import logging
from pathlib import Path
from typing import Any

from buckler.errors import ModelError
from buckler.modality.base import Images, Shape, check_pixels
from buckler.models import (
    exported_denoiser,
    runtime,  # first: it disables the telemetry of OpenVINO and NNCF
)
from buckler.models.backend import keras, tf
from buckler.models.denoiser import Denoiser
from buckler.models.features import add_features, head_of, last_maps

import nncf  # isort: skip
import openvino as ov  # isort: skip
from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # isort: skip

ENGINE = f"openvino {ov.get_version().partition('-')[0]}, nncf {nncf.__version__}"


def write(network: keras.Model, pictures: Images, directory: Path) -> None:
    """Write ``network`` into ``directory`` in every precision of `runtime.FILES`, creating it if necessary.

    Each exported network takes one picture and has the outputs `runtime.OUTPUTS`: logits, features and the last tap's
    maps.

    Args:
        network: Built from an architecture of `buckler.models.networks.table` or from a file, without random layers.
        pictures: Training pictures ``(n, size, size, 3)``; determine the ranges of the activations.
        directory: Existing files of the same names are replaced.

    Raises:
        ModelError: Some layer cannot be exported.
    """
    check_pixels(pictures)
    directory.mkdir(parents=True, exist_ok=True)
    exact = _converted(network)
    ov.save_model(exact, directory / runtime.FILES["float32"], compress_to_fp16=False)
    ov.save_model(_quantised(exact, pictures), directory / runtime.FILES["int8"], compress_to_fp16=False)
    if head := head_of(network):
        head.save(directory)  # for Grad-CAM without Keras


def write_denoiser(denoiser: Denoiser, shape: Shape, directory: Path) -> None:
    """Write ``denoiser`` for pictures of ``shape`` into ``directory``, in float32; see `ExportedDenoiser`."""
    signature = [tf.TensorSpec((1, *shape), tf.float32, name="images")]
    traced = tf.function(denoiser.restored, input_signature=signature)
    directory.mkdir(parents=True, exist_ok=True)
    model = _named(ov.convert_model(traced.get_concrete_function()))
    ov.save_model(model, directory / exported_denoiser.FILE, compress_to_fp16=False)


def _converted(network: keras.Model) -> Any:
    logits, features = add_features(network).outputs
    outputs = {runtime.LOGITS: logits, runtime.FEATURES: features, runtime.MAPS: last_maps(network)}
    whole = keras.Model(network.input, outputs)
    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name="images")]
    traced = tf.function(lambda images: whole(images, training=False), input_signature=signature)
    try:
        return _named(ov.convert_model(traced.get_concrete_function()))
    except Exception as error:  # the converter raises many types
        reason = " ".join(str(error).split())[:500]
        raise ModelError(
            f"expected a network that OpenVINO can convert, got one with layers that it cannot: {reason}; replace these"
            " layers"
        ) from error


def _named(model: Any) -> Any:
    """Number the operations of ``model``: their original names depend on earlier conversions in the process."""
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
        for output in operation.outputs():
            output.get_tensor().set_names(output.get_names() & {*runtime.OUTPUTS, "images"})
    return model


def _quantised(exact: Any, pictures: Images) -> Any:
    logging.getLogger("nncf").setLevel(logging.WARNING)
    # All up to the first convolution stays float32: eight bits over the range of normalised pixels would lose steps of
    # 1/255, and with them attacks.
    kinds = [(op.get_friendly_name(), op.get_type_name()) for op in exact.get_ordered_ops()]
    places = [place for place, (_, kind) in enumerate(kinds) if kind in ("Convolution", "GroupConvolution")]
    first = [name for name, kind in kinds[: places[0] + 1] if kind not in ("Constant", "Parameter")] if places else []
    quantised = nncf.quantize(
        exact,
        nncf.Dataset([picture[None] for picture in pictures]),
        subset_size=len(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        # The logits' error is a quarter smaller than with ranges from minimum to maximum.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
        ),
        # The head takes hardly any time, and all results depend on its logits.
        ignored_scope=nncf.IgnoredScope(
            names=first, validate=False, types=["MatMul"] if any(kind == "MatMul" for _, kind in kinds) else []
        ),
    )
    return _named(quantised)
