"""Data sources: the pictures of a folder, or of the seeded generator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from buckler.data import masks
from buckler.errors import DataError
from buckler.modality.picture import images, synthetic


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a source, read on demand.

    Attributes:
        id: POSIX path relative to the source, unique: ``benign/100.jpg``.
        label: Its class.
        group: Items with the same one, such as a lesion or a patient, stay in one split; empty if unknown.
        extra: Further columns for the manifest.
        read: Returns the bytes.
        mask: Returns which pixels show the lesion, as a black and white PNG; None if the source does not know.
    """

    id: str
    label: str
    read: Callable[[], bytes]
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    mask: Callable[[], bytes] | None = None


def generated(*, per_class: int, seed: int, size: int) -> list[Item]:
    """Return ``per_class`` generated pictures of each class, ``size`` pixels a side, as PNG.

    Raises:
        DataError: ``per_class`` is not positive: the generator has no "all".
    """
    if per_class < 1:
        raise DataError(f"expected data.per_class of at least 1 for the synthetic source, got {per_class}")
    drawings = [_Drawing(label, index, seed, size) for label in synthetic.LABELS for index in range(per_class)]
    return [Item(f"{each.label}/{each.index:05}.png", each.label, each, mask=each.mask) for each in drawings]


@dataclass(frozen=True, slots=True)
class _Drawing:
    label: str
    index: int
    seed: int
    size: int

    def __call__(self) -> bytes:
        return images.to_png(synthetic.draw(self.label, self.index, seed=self.seed, size=self.size))

    def mask(self) -> bytes:
        return masks.to_png(synthetic.lesion_mask(self.label, self.index, seed=self.seed, size=self.size))
