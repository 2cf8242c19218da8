"""Runs the decoder of the service over every file of folders, and compares its pixels with reference decoders.

Reads   folders of pictures, such as the test files of other projects
Writes  docs/results/corpus.json

The references are Pillow, with LittleCMS for colour profiles, for JPEG, PNG, AVIF, WebP, TIFF and BMP; and pydicom for
colour DICOM files of 8 bits. HEIC has no second decoder here, and the brightness of grey DICOM files is a choice of the
viewer: these are not compared.
"""

import argparse
import io
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from benchmarks import results
from benchmarks.results import CellValue, Column, Table
from benchmarks.tables import markdown
from buckler.errors import DataError, UnusableImageError
from buckler.modality.picture import formats, images, uploads
from pipelines.stage import stage

COMMAND = "python -m benchmarks.corpus LABEL=DIR..."
NAME = "corpus"
SIZE = 224  # what the service resizes to
CODES = UnusableImageError.CODES
EQUAL = 2  # levels of 255 by which equal pixels differ: rounding, and the inverse DCTs of two libraries
CLOSE = 3.0  # mean difference in levels: the same picture, with other chroma upsampling or rounding of profiles
FAILED = "failed"
_MEGABYTE = 1_000_000

Pixels = NDArray[np.uint8]


@dataclass
class Corpus:
    """What the decoder made of the files of one folder.

    Attributes:
        label: Name of the folder for readers.
        outcomes: Files by ``accepted``, the code of their refusal, or ``failed``.
        agreement: Compared files by ``equal``, ``close`` or ``different``.
        different: Names of files whose pixels differ, with their format and the mean difference in levels.
        seconds, megabytes: Of the slowest file, and of the one that takes most memory.
    """

    label: str
    outcomes: Counter[str] = field(default_factory=Counter)
    agreement: Counter[str] = field(default_factory=Counter)
    different: list[tuple[str, str, float]] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0


def run(folders: Mapping[str, Path], most: int, out: Path) -> None:
    """Write and print the tables for ``folders`` by label, with at most ``most`` files of each; 0 takes all.

    Raises:
        DataError: A folder has no file.
    """
    found = [survey(label, folder, most) for label, folder in folders.items()]
    tables = {"corpora": _corpora(found), "different": _different(found)}
    remark = f"Equal pixels differ by at most {EQUAL} of 255 levels, close ones by {CLOSE:g} on average."
    results.new(NAME, COMMAND, tables, settings={"most": most, "size": SIZE}, remark=remark).write(out)
    print("\n\n".join(markdown(table) for table in tables.values()))


def survey(label: str, folder: Path, most: int = 0) -> Corpus:
    """Return what the decoder makes of the files in ``folder``; errors as for `run`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise DataError(f"expected files in {folder}, got none")
    corpus = Corpus(label)
    for path in files[:: max(1, len(files) // most)][:most] if most else files:
        _decode(path, corpus)
    return corpus


def _decode(path: Path, corpus: Corpus) -> None:
    content = path.read_bytes()
    before, start = _reset_peaks(), time.perf_counter()
    decoded = False
    try:
        uploads.load(content, size=SIZE)
        outcome, decoded = "accepted", True
    except UnusableImageError as error:
        outcome = error.code.value
    except Exception as error:
        outcome = FAILED
        print(f"{path.name}: {type(error).__name__}")
    corpus.seconds = max(corpus.seconds, time.perf_counter() - start)
    corpus.megabytes = max(corpus.megabytes, (_peaks() - before) / _MEGABYTE)
    corpus.outcomes[outcome] += 1
    if decoded:
        _compare(path.name, content, corpus)


def _compare(name: str, content: bytes, corpus: Corpus) -> None:
    kind = formats.format_of(content)
    expected = reference(kind, content)
    if expected is None:
        return
    pixels = np.asarray(images.load_image(content))
    if pixels.shape != expected.shape:
        verdict, mean = "different", 255.0
    else:
        off = np.abs(pixels.astype(np.int16) - expected)
        mean = float(off.mean())
        verdict = "equal" if off.max() <= EQUAL else "close" if mean <= CLOSE else "different"
    corpus.agreement[verdict] += 1
    if verdict == "different":
        corpus.different.append((name, kind, mean))


def reference(kind: str, content: bytes) -> Pixels | None:
    """Return the pixels ``(height, width, 3)`` of another decoder; None if there is none or it fails."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        if kind == "DICOM":
            return _of_pydicom(content)
        if kind != "HEIC":
            return _of_pillow(content)
    return None


def _of_pydicom(content: bytes) -> Pixels | None:
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    dataset = dcmread(io.BytesIO(content), force=True)
    if dataset.SamplesPerPixel != 3 or dataset.BitsStored != 8 or "ICCProfile" in dataset:
        return None
    return np.asarray(pixel_array(dataset, raw=False))


def _of_pillow(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as opened:
        for name in ("xmp", "XML:com.adobe.xmp"):
            opened.info.pop(name, None)  # the orientation comes from EXIF only
        image: Image.Image = ImageOps.exif_transpose(opened)
        info, profile = dict(image.info), image.info.get("icc_profile")
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        shown = image if image.mode in ("L", "CMYK") else image.convert("RGB")
        with suppress(ImageCms.PyCMSError):
            if profile:
                own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                converted = ImageCms.profileToProfile(shown, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
                shown = converted or shown
        shown = _without_gamma(shown.convert("RGB"), info)
        if alpha:
            shown = Image.composite(shown, Image.new("RGB", shown.size, "white"), alpha)
        return np.asarray(shown)


def _without_gamma(image: Image.Image, info: Mapping[str | tuple[int, int], object]) -> Image.Image:
    """Apply a PNG's chunk gAMA, which Pillow only reads, as browsers do."""
    gamma = info.get("gamma")
    if not isinstance(gamma, float) or "srgb" in info or "icc_profile" in info or abs(2.2 * gamma - 1) <= 0.05:
        return image
    light = (np.arange(256) / 255) ** (1 / gamma)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image.point(3 * np.rint(255 * shown).astype(int).tolist())


def _processes() -> Iterator[Path]:
    """Yield this process and the decoder's children."""
    yield Path("/proc/self")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                yield process


def _reset_peaks() -> int:
    """Forget the peaks of memory; return what is in use, in bytes."""
    for process in _processes():
        with suppress(OSError):
            (process / "clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def _peaks() -> int:
    return _memory("VmHWM")


def _memory(kind: str) -> int:
    total = 0
    for process in _processes():
        with suppress(OSError):
            lines = (process / "status").read_text(encoding="utf-8").splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))
    return total


def _corpora(found: Sequence[Corpus]) -> Table:
    columns = (
        Column("corpus", "corpus"),
        Column("files", "files", ","),
        Column("accepted", "accepted", ","),
        *(Column(code.value, f"`{code.value}`", ",") for code in CODES),
        Column(FAILED, "other errors", ","),
        Column("equal", "pixels equal", ","),
        Column("close", "close", ","),
        Column("different", "different", ","),
        Column("seconds", "worst time (s)", ".2f"),
        Column("megabytes", "worst memory (MB)", ",.0f"),
    )
    return Table(columns, tuple(_row(corpus) for corpus in found))


def _row(corpus: Corpus) -> dict[str, CellValue]:
    outcomes, agreement = corpus.outcomes, corpus.agreement
    return {
        "corpus": corpus.label,
        "files": outcomes.total(),
        **{name: outcomes[name] for name in ("accepted", *(code.value for code in CODES), FAILED)},
        **{name: agreement[name] for name in ("equal", "close", "different")},
        "seconds": round(corpus.seconds, 3),
        "megabytes": round(corpus.megabytes),
    }


def _different(found: Sequence[Corpus]) -> Table:
    columns = (
        Column("corpus", "corpus"),
        Column("file", "file"),
        Column("format", "format"),
        Column("mean", "mean difference (levels)", ".1f"),
    )
    rows: list[dict[str, CellValue]] = [
        {"corpus": corpus.label, "file": name, "format": kind, "mean": round(mean, 1)}
        for corpus in found
        for name, kind, mean in corpus.different
    ]
    return Table(columns, tuple(rows))


def _labelled(text: str) -> tuple[str, Path]:
    label, mark, folder = text.rpartition("=")
    return (label, Path(folder)) if mark else (Path(text).name, Path(text))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="LABEL=DIR", nargs="+", help="a folder, and its name for readers")
    parser.add_argument("--most", type=int, default=0, help="most files of each folder (default: all)")
    results.add_options(parser)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of damaged files
    run(dict(map(_labelled, given.folders)), given.most, given.out or results.DIRECTORY)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stage(main)
