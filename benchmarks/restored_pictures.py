"""Measures how close degraded pictures come to the clean ones behind each restoration step, and how long that takes.

Reads   a folder of class folders, the denoiser's weights if they exist
Writes  docs/results/restored_pictures.json, and the denoiser's weights if they did not exist
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from skimage.metrics import structural_similarity
from tqdm import tqdm

from benchmarks import results
from benchmarks.restored_classifiers import Split, split
from benchmarks.results import CellValue, Column, Table
from benchmarks.tables import markdown
from buckler.modality.base import Images, Shape
from buckler.modality.picture.modality import MODALITY as PICTURE
from buckler.modality.picture.restoration import table
from buckler.modality.picture.restoration.base import Step
from buckler.modality.picture.restoration.degradations import DEGRADATIONS, SEVERITIES, degraded
from buckler.models import denoiser, export
from buckler.models.denoiser import Denoiser
from buckler.models.exported_denoiser import ExportedDenoiser
from buckler.state import paths
from buckler.training import denoising
from buckler.training.denoising import DenoiserSchedule
from pipelines.stage import stage

NAME = "restored_pictures"
COMMAND = "python -m benchmarks.restored_pictures --data DIR"
NATIVE = 224  # pixels a side
MEASURES = {
    "psnr": ("PSNR in dB", ".1f"),
    "ssim": ("SSIM", ".3f"),
    "mse": ("mean squared error in (1/255)²", ".1f"),
}
# Errors below half of that of rounding to 8 bits count as this one: a picture that stays as it is has none.
_LEAST_ERROR = 1 / (24 * 255**2)


def distances(clean: Images, found: Images) -> dict[str, float]:
    """Return the ``MEASURES`` of ``found`` against ``clean``, both (n, h, w, 3) in 0..1, mean over the pictures.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    errors = ((found - clean) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)
    ratios = -10 * np.log10(np.maximum(errors, _LEAST_ERROR))
    pairs = zip(clean, found, strict=True)
    alike = [structural_similarity(one, other, channel_axis=-1, data_range=1.0) for one, other in pairs]
    return {"psnr": float(ratios.mean()), "ssim": float(np.mean(alike)), "mse": float(errors.mean() * 255**2)}


def tables(steps: Mapping[str, Step], clean: Images, *, seed: int) -> dict[str, Table]:
    """Return a table for each of ``MEASURES``: a row for each fault and severity, a column for each step."""
    rows: dict[str, list[dict[str, CellValue]]] = {name: [] for name in MEASURES}
    faults = [("clean", 0), *((kind, severity) for kind in DEGRADATIONS for severity in SEVERITIES)]
    for kind, severity in tqdm(faults, unit="fault", desc="restore"):
        given = degraded(clean, kind, severity, seed=seed) if severity else clean
        found = {name: distances(clean, step(given)) for name, step in steps.items()}
        for measure, lines in rows.items():
            values = {name: found[name][measure] for name in steps}
            lines.append({"fault": kind, "severity": severity or None, **values})
    return {name: Table(_columns(name, steps), tuple(lines)) for name, lines in rows.items()}


def _columns(measure: str, steps: Mapping[str, Step]) -> tuple[Column, ...]:
    title, form = MEASURES[measure]
    leading = (Column("fault", title), Column("severity", "severity"))
    return (*leading, *(Column(name, f"`{name}`", form) for name in steps))


def milliseconds(step: Step, images: Images) -> float:
    """Return the processor time of all threads for one picture given alone, the median over ``images``."""
    step(images[:1])  # what happens once, such as compiling, is not counted
    times = []
    for place in range(len(images)):
        start = time.process_time()
        step(images[place : place + 1])
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times))


def run(given: argparse.Namespace, out: Path) -> None:
    """Write and print the tables.

    Raises:
        DataError: The folder has no class folders, or too few pictures.
        ModelError: The denoiser's weights do not fit.
    """
    parts, _ = split(given.data, per_class=given.per_class, seed=given.seed)
    network = trained(given.denoiser, parts["train"], DenoiserSchedule(steps=given.denoiser_steps, seed=given.seed))
    steps = as_served(network, PICTURE.shape(NATIVE))
    sample = parts["test"].load(NATIVE, given.pictures)
    found = tables(steps, sample, seed=given.seed) | {"times": _times(steps, sample)}
    settings = {
        "pictures": {name: len(part.paths) for name, part in parts.items()},
        "denoiser_weights": network.network.count_params(),
        "denoiser_steps": given.denoiser_steps,
    }
    remark = (
        f"{len(sample)} test pictures of {NATIVE} pixels a side. Milliseconds of processor time of one thread, the"
        " median; the processor had other work."
    )
    results.new(NAME, COMMAND, found, seeds=[given.seed], settings=settings, remark=remark).write(out)
    print("\n\n".join(markdown(each) for each in found.values()))


def trained(path: Path, part: Split, schedule: DenoiserSchedule) -> Denoiser:
    """Return the denoiser with the weights in ``path``; if there are none, train it on ``part`` and write them."""
    if path.exists():
        return denoiser.load(path)
    with tqdm(total=schedule.steps, unit="step", desc="train the denoiser") as bar:
        network = denoising.train(part.load(NATIVE), schedule, lambda _, __: bar.update())
    network.save(path)
    return network


def as_served(network: Denoiser, shape: Shape) -> dict[str, Step]:
    """Return all steps by name, ``network`` as the service runs it on pictures of ``shape``."""
    with TemporaryDirectory() as directory:
        export.write_denoiser(network, shape, Path(directory))
        exported = ExportedDenoiser(Path(directory), threads=1)
    return {name: table.find(name) for name in table.STEPS} | {network.name: exported}


def _times(steps: Mapping[str, Step], sample: Images) -> Table:
    columns = (Column("step", "step"), Column("milliseconds", "milliseconds a picture", ".0f"))
    rows: list[dict[str, CellValue]] = [
        {"step": f"`{name}`", "milliseconds": milliseconds(step, sample)} for name, step in steps.items()
    ]
    return Table(columns, tuple(rows))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the benchmarks of restoration share."""
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder of pictures for each class")
    parser.add_argument("--per-class", type=int, default=250, help="pictures of each class (default: 250)")
    parser.add_argument("--seed", type=int, default=7, help="seed of all random choices (default: 7)")
    steps = DenoiserSchedule().steps
    parser.add_argument("--denoiser-steps", type=int, default=steps, help=f"steps of its training (default: {steps})")
    parser.add_argument(
        "--denoiser",
        type=Path,
        default=paths.DENOISER,
        help="weights of the denoiser; trained and written if there are none (default: %(default)s)",
    )
    results.add_options(parser)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--pictures", type=int, default=12, help="test pictures to restore (default: 12)")
    given = parser.parse_args()
    run(given, given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
