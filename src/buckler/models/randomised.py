"""A defence that answers at random: each picture is shrunk, put somewhere on its own edge colours and made noisy."""

from dataclasses import dataclass
from typing import Any

from buckler.models.backend import keras


@dataclass(frozen=True, slots=True)
class Randomisation:
    """How far a picture is changed before the network sees it; section ``randomise`` of params.yaml.

    Attributes:
        smallest: Smallest side it is shrunk to, as a share of its own.
        noise_255: Standard deviation of the noise on each channel of each pixel, in 1/255.
    """

    smallest: float
    noise_255: float

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 < self.smallest <= 1 or self.noise_255 < 0:
            raise ValueError(f"expected smallest in 0..1 and noise_255 of at least 0, got {self}")


@keras.saving.register_keras_serializable(package="buckler")
class RandomisedInput(keras.layers.Layer):  # type: ignore[misc]
    """Shrinks, pads and adds noise, anew for each picture at each pass, when serving too.

    Its gradient is that of one draw: an attack has to average over many (expectation over transformation).

    Source: Xie et al., "Mitigating adversarial effects through randomization", arXiv 1711.01991, for size and place.
    """

    def __init__(self, smallest: float, noise_255: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._config = {"smallest": smallest, "noise_255": noise_255, "seed": seed}
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, images: Any) -> Any:
        """Return ``images`` (batch, height, width, 3) changed, same shape."""
        count, side = keras.ops.shape(images)[0], images.shape[1]
        smallest, noise = self._config["smallest"], self._config["noise_255"] / 255
        scale = keras.random.uniform((count,), smallest, 1.0, seed=self._draws)
        across, down = (side * (1 - scale) * keras.random.uniform((count,), seed=self._draws) for _ in range(2))
        zero = keras.ops.zeros_like(scale)
        # From a place in the result to the place in the picture that is seen there.
        there = [1 / scale, zero, -across / scale, zero, 1 / scale, -down / scale, zero, zero]
        placed = keras.ops.image.affine_transform(images, keras.ops.stack(there, axis=1), fill_mode="nearest")
        return placed + noise * keras.random.normal(keras.ops.shape(placed), seed=self._draws)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` takes."""
        return {**super().get_config(), **self._config}
