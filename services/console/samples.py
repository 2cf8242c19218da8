"""Sample pictures from the generator, for a model that was trained on pictures of it.

They have a seed of their own, so that none of them is a training picture.
"""

from dataclasses import dataclass
from functools import lru_cache

from buckler.modality.picture import images, synthetic

SEED = 20_261_130  # of no profile in params.yaml


@dataclass(frozen=True, slots=True)
class Sample:
    """Picture ``index`` of the generator's class ``label``."""

    number: int
    label: str
    index: int


SAMPLES = tuple(
    Sample(number, label, index)
    for number, (index, label) in enumerate((index, label) for index in range(3) for label in synthetic.LABELS)
)


@lru_cache(maxsize=2 * len(SAMPLES))
def draw(sample: Sample, size: int) -> bytes:
    """Return a sample as a PNG file of ``size`` pixels a side."""
    return images.to_png(synthetic.draw(sample.label, sample.index, seed=SEED, size=size))
