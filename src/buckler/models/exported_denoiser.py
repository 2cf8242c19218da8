"""The exported denoiser: the restoration step ``cnn`` with OpenVINO, without TensorFlow, as the service runs it."""

import numpy as np

from buckler.errors import ModelError
from buckler.modality.base import Images, Shape, check_pixels
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.models import runtime  # first: it disables the telemetry of OpenVINO
from buckler.state.locations import Location

import openvino as ov  # isort: skip

FILE = "denoiser.xml"  # in a model's directory; its weights are beside it


class ExportedDenoiser(Step):
    """Restores pictures of one shape, one after the other; threads may share it.

    Args:
        directory: Contains the files that `buckler.models.export.write_denoiser` wrote.
        threads: Number of threads; default: one for each processor that this process may use.

    Raises:
        ModelError: A file is missing or damaged.
    """

    name = table.CNN
    title = "residual CNN"
    source = "Zhang et al., arXiv 1608.03981"

    def __init__(self, directory: Location, *, threads: int | None = None) -> None:
        file = directory / FILE
        try:
            # From memory, as the network: see `buckler.models.runtime.Runtime`.
            model = ov.Core().read_model(file.read_bytes(), file.with_suffix(runtime.WEIGHTS_SUFFIX).read_bytes())
            self._compiled = ov.compile_model(model, "CPU", runtime.settings("float32", 1, threads))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{file} cannot be loaded as an exported denoiser: {error}") from error
        self.shape: Shape = tuple(self._compiled.input(0).shape)[1:]

    def __call__(self, images: Images) -> Images:
        """Return ``images`` (n, h, w, 3) in 0..1 without their noise, same shape and range."""
        check_pixels(images)
        if images.shape[1:] != self.shape:
            raise ValueError(f"expected pictures of shape {self.shape}, got {images.shape[1:]}")
        result, request = np.empty_like(images), self._compiled.create_infer_request()
        for place in range(len(images)):
            result[place] = request.infer([images[place : place + 1]])[0][0]
        return result


def exists(directory: Location) -> bool:
    """Return whether ``directory`` contains an exported denoiser."""
    return (directory / FILE).exists()
