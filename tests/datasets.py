"""Small data sets on disk, drawn by the seeded generator."""

from pathlib import Path

from buckler.modality.picture import images, synthetic

SIZE = 32


def png(label: str = "benign", index: int = 0, *, size: int = SIZE) -> bytes:
    """Return one generated picture as a PNG file."""
    return images.to_png(synthetic.draw(label, index, seed=1, size=size))


def make_folder(root: Path, *, per_class: int, labels: tuple[str, ...] = synthetic.LABELS) -> Path:
    """Write ``per_class`` pictures in a folder for each of ``labels`` and return ``root``."""
    for place, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for index in range(per_class):
            kind = synthetic.LABELS[place % 2]
            (root / label / f"{index}.png").write_bytes(png(kind, 1000 * place + index))
    return root
