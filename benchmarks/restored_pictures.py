"""Measures how close degraded pictures come to the clean ones behind each restoration step, and how long that takes."""

import time
from collections.abc import Mapping

import numpy as np
from skimage.metrics import structural_similarity
from tqdm import tqdm

from benchmarks.results import CellValue, Column, Table
from buckler.modality.base import Images
from buckler.modality.picture.restoration.base import Step
from buckler.modality.picture.restoration.degradations import DEGRADATIONS, SEVERITIES, degraded

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
