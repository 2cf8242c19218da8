"""BentoML with the exported network only: the baseline without front door, detector and audit log."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from buckler.modality.picture.images import load_pixels
from buckler.models.forward import probabilities
from buckler.models.runtime import Runtime


@bentoml.service(name="bare", traffic={"timeout": 60})
class Bare:
    """Decoder and network."""

    def __init__(self) -> None:
        self._network = Runtime.load(Path(os.environ["BUCKLER_BENCH_MODEL"]))

    @bentoml.api
    def predict(self, image: Annotated[Path, ContentType("image/*")]) -> list[float]:
        """Return the probabilities."""
        pixels = load_pixels(image, size=self._network.shape[0])
        shares: list[float] = probabilities(self._network.logits(pixels[None]))[0].tolist()
        return shares
