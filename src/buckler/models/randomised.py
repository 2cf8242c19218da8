"""Randomised input, a defence: shrinks each picture, pads it at random with its edge colours and adds noise."""

from dataclasses import dataclass
from typing import Any

from buckler.models.backend import keras
from buckler.params import Number, Positive


@dataclass(frozen=True, slots=True)
class Randomisation:
    """Strength of the change; section ``randomise`` of params.yaml.

    Attributes:
        smallest: Minimum side after shrinking, as a share of the picture's side.
        noise_255: Standard deviation of the noise on each channel of each pixel, in 1/255.
    """

    smallest: Positive
    noise_255: Number

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if not 0 < self.smallest <= 1 or not 0 <= self.noise_255 <= 255:
            raise ValueError(f"expected smallest above 0 and up to 1, and noise_255 in 0..255, got {self}")


@keras.saving.register_keras_serializable(package="buckler")
class RandomisedInput(keras.layers.Layer):  # type: ignore[misc]
    """Shrinks, pads and adds noise with new random draws for each picture at each pass, also in the service.

    The gradient is that of one draw: an attack must average over many draws (expectation over transformation).

    Source: Xie et al., "Mitigating adversarial effects through randomization", arXiv 1711.01991, for shrinking and
    padding.
    """

    def __init__(self, smallest: float, noise_255: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._config = {"smallest": smallest, "noise_255": noise_255, "seed": seed}
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, images: Any) -> Any:
        """Return randomised ``images`` (batch, height, width, 3) of the same shape."""
        count, side = keras.ops.shape(images)[0], images.shape[1]
        smallest, noise = self._config["smallest"], self._config["noise_255"] / 255
        scale = keras.random.uniform((count,), smallest, 1.0, seed=self._draws)
        across, down = (side * (1 - scale) * keras.random.uniform((count,), seed=self._draws) for _ in range(2))
        zero = keras.ops.zeros_like(scale)
        # Maps positions in the result to positions in the picture.
        transform = [1 / scale, zero, -across / scale, zero, 1 / scale, -down / scale, zero, zero]
        placed = keras.ops.image.affine_transform(images, keras.ops.stack(transform, axis=1), fill_mode="nearest")
        return placed + noise * keras.random.normal(keras.ops.shape(placed), seed=self._draws)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        return {**super().get_config(), **self._config}
