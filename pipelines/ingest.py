"""Stage ``ingest``: copies the pictures of the data source into the project and writes their manifest.

Reads   the folder data.path of params.yaml; nothing if data.source is synthetic
Writes  data/images/<id>   a copy of each picture drawn
        data/masks/<id>    which of its pixels show the lesion, if the source knows; else the folder stays empty
        data/manifest.csv  one row a picture
"""

import hashlib
import shutil
from pathlib import Path

from tqdm import tqdm

from buckler import params
from buckler.data import collection, inventory, manifest, sources
from buckler.data.collection import Collection
from buckler.data.masks import MASKS
from buckler.errors import UnusableInputError
from buckler.modality.base import Modality
from pipelines.settings import DataParams
from pipelines.stage import stage

IMAGES = Path("data/images")
MANIFEST = Path("data/manifest.csv")


def run(cfg: DataParams) -> None:
    """Copy the pictures that ``cfg`` selects in place of earlier ones, write their manifest and print a summary."""
    folder = collection.read(Path(cfg.path), cfg.layout) if cfg.source == "directory" else None
    items = _items(cfg, folder)
    for outputs in (IMAGES, MASKS):
        shutil.rmtree(outputs, ignore_errors=True)
    MASKS.mkdir(parents=True)
    modality = cfg.form.modality
    rows = [_ingest(item, cfg, modality) for item in tqdm(items, desc=f"ingest {cfg.source}", unit=modality.one)]
    frame = manifest.build(rows)
    manifest.write(frame, MANIFEST)
    if folder is None:
        print(f"{len(frame)} {modality.many} generated")
        return
    undecodable = frame["id"][frame[modality.facts[0]] == ""].tolist()
    print(inventory.line(folder, frame["id"].tolist(), undecodable))


def _items(cfg: DataParams, folder: Collection | None) -> list[sources.Item]:
    if folder is None:
        modality = cfg.form.modality
        return sources.generated(
            modality, labels=cfg.generated, per_class=cfg.per_class, seed=cfg.seed, size=cfg.image_size
        )
    folder.check(dangerous=cfg.malignant, max_unmatched=cfg.max_unmatched)
    return folder.items(per_class=cfg.per_class, seed=cfg.seed)


def _ingest(item: sources.Item, cfg: DataParams, modality: Modality) -> dict[str, object]:
    content = item.read()
    path = _written(IMAGES / item.id, content)
    if item.mask and (mask := item.mask()):
        _written(MASKS / item.id, mask)
    return row_of(item, content, path, cfg.source, modality)


def row_of(item: sources.Item, content: bytes, path: Path, source: str, modality: Modality) -> dict[str, object]:
    """Return the manifest's row of a file with the bytes ``content``, which is stored at ``path``."""
    row: dict[str, object] = {
        "id": item.id,
        "path": path.as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "label": item.label,
        "bytes": len(content),
        "source": source,
        "group": item.group,
        **dict.fromkeys(modality.facts, ""),
        **item.extra,
    }
    try:
        return row | {name: str(value) for name, value in modality.inspect(content).items()}
    except UnusableInputError:
        return row  # kept in the manifest, so that the stage validate can report it


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("data", DataParams))


if __name__ == "__main__":
    stage(main)
