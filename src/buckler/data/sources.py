"""Data sources: the pictures of a folder, or of the seeded generator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from buckler.data import masks
from buckler.errors import DataError
from buckler.modality.base import Modality


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a source, read on demand.

    Attributes:
        id: POSIX path relative to the source, unique: ``benign/100.jpg``.
        label: Its class.
        group: Items with the same one, such as a lesion or a patient, stay in one split; empty if unknown.
        extra: Further columns for the manifest.
        read: Returns the bytes.
        mask: Returns which pixels show the lesion, as a black and white PNG; the function or its result is None
            if the source does not know.
    """

    id: str
    label: str
    read: Callable[[], bytes]
    group: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    mask: Callable[[], bytes | None] | None = None


def generated(
    modality: Modality, *, per_class: int, seed: int, size: int, labels: Sequence[str] | None = None
) -> list[Item]:
    """Return ``per_class`` generated files of each of ``labels``, by default all, whose inputs have the size ``size``.

    Raises:
        DataError: ``per_class`` is not positive: the generator has no "all".
    """
    if per_class < 1:
        raise DataError(f"expected data.per_class of at least 1 for the synthetic source, got {per_class}")
    labels = modality.labels if labels is None else labels
    drawings = [_Drawing(modality, label, index, seed, size) for label in labels for index in range(per_class)]
    return [Item(each.id, each.label, each, mask=each.mask) for each in drawings]


@dataclass(frozen=True, slots=True)
class _Drawing:
    modality: Modality
    label: str
    index: int
    seed: int
    size: int

    @property
    def id(self) -> str:
        return f"{self.label}/{self.index:05}{self.modality.suffix}"

    def __call__(self) -> bytes:
        return self.modality.to_file(self.modality.generate(self.label, self.index, self.seed, self.size))

    def mask(self) -> bytes | None:
        mask = self.modality.mask(self.label, self.index, self.seed, self.size)
        return None if mask is None else masks.to_png(mask)
