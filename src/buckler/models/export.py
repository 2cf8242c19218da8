"""Writes a Keras network as the files that serve: in float32, and in eight bits calibrated on training pictures.

Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
arXiv 1712.05877, for quantisation after training; NNCF computes it.
"""

import logging
from pathlib import Path
from typing import Any

from buckler.modality.base import Images, check_pixels
from buckler.models import runtime  # first: it keeps OpenVINO and NNCF from reporting to their makers
from buckler.models.backend import keras, tf
from buckler.models.explanation import HeadWeights
from buckler.models.features import add_features
from buckler.models.networks.vgg import BLOCK_ENDS

import nncf  # isort: skip
import openvino as ov  # isort: skip
from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # isort: skip

ENGINE = f"openvino {ov.get_version().partition('-')[0]}, nncf {nncf.__version__}"


def write(network: keras.Model, pictures: Images, directory: Path) -> None:
    """Write ``network`` into ``directory``, which is made if missing, in every precision of `runtime.FILES`.

    The files take one picture and have the outputs `runtime.OUTPUTS`: logits, the detector's features, the last maps.

    Args:
        network: As `buckler.models.networks.vgg.join` makes it, without random layers.
        pictures: Training pictures ``(n, size, size, 3)`` that the ranges of the activations are taken from.
        directory: Files of the same names are replaced.
    """
    check_pixels(pictures)
    directory.mkdir(parents=True, exist_ok=True)
    exact = _converted(network)
    ov.save_model(exact, directory / runtime.FILES["float32"], compress_to_fp16=False)
    ov.save_model(_quantised(exact, pictures), directory / runtime.FILES["int8"], compress_to_fp16=False)
    HeadWeights.of(network).save(directory)  # Grad-CAM's gradient, without Keras


def _converted(network: keras.Model) -> Any:
    logits, features = add_features(network).outputs
    maps = network.get_layer(BLOCK_ENDS[-1]).output
    whole = keras.Model(network.input, {runtime.LOGITS: logits, runtime.FEATURES: features, runtime.MAPS: maps})
    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name="images")]
    traced = tf.function(lambda images: whole(images, training=False), input_signature=signature)
    return _named(ov.convert_model(traced.get_concrete_function()))


def _named(model: Any) -> Any:
    """Number the operations of ``model``: their own names count what was converted before in the same process."""
    for place, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
        for output in operation.outputs():
            output.get_tensor().set_names(output.get_names() & {*runtime.OUTPUTS, "images"})
    return model


def _quantised(exact: Any, pictures: Images) -> Any:
    logging.getLogger("nncf").setLevel(logging.WARNING)
    # Eight bits over the range of normalised pixels would swallow a step of 1/255, and with it what is attacked.
    first = next(op.get_friendly_name() for op in exact.get_ordered_ops() if op.get_type_name() == "Convolution")
    quantised = nncf.quantize(
        exact,
        nncf.Dataset([picture[None] for picture in pictures]),
        subset_size=len(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        # Ranges that lose least over the whole distribution: a quarter less error in the logits than by the extremes.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
        ),
        # The head costs nothing, and every number is read from its logits.
        ignored_scope=nncf.IgnoredScope(names=[first], types=["MatMul"]),
    )
    return _named(quantised)
