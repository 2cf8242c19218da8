"""Plots of the reports: each function draws one PNG from the numbers of a JSON or CSV report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.figure import Figure

from buckler.measurements.detection import RiskPoint
from buckler.measurements.results import Rate
from buckler.radius import StatedRadius

# Distinguishable with any colour vision (Okabe & Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
GREY = "#6b7280"
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.size": 9,
    "legend.frameon": False,
    "savefig.dpi": 144,
    "axes.prop_cycle": cycler(color=COLOURS),
}


@contextmanager
def _figure(path: Path, columns: int = 1, *, width: float = 5.0, height: float = 3.8) -> Iterator[Any]:
    # Figure instead of pyplot: no global state, no display, nothing to close.
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield axes if columns > 1 else axes[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def training_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss and accuracy by epoch on training and validation pictures, and on attacked ones if present."""
    epochs = [row["epoch"] for row in history]
    point = {"marker": "o"} if len(epochs) == 1 else {}  # a line through one point is invisible
    lines = {"": "training", "val_": "validation", "val_robust_": "validation, attacked"}
    with _figure(path, 2, width=4.2) as axes:
        for axis, metric in zip(axes, ("loss", "accuracy"), strict=True):
            for prefix, label in lines.items():
                if f"{prefix}{metric}" in history[0]:
                    axis.plot(epochs, [row[f"{prefix}{metric}"] for row in history], label=label, **point)
            axis.set(xlabel="epoch", title=metric.capitalize())
            axis.legend()


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix: rows true, columns predicted; each cell with its count and its share of the row."""
    confusions({title: matrix}, labels, path)


def confusions(matrices: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[str], path: Path) -> None:
    """Draw confusion matrices side by side, by title."""
    side = 2.2 + 0.55 * len(labels)
    with _figure(path, len(matrices), width=side, height=side) as axes:
        for axis, (title, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
            counts = np.asarray(matrix)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            axis.grid(visible=False)
            for row, column in np.ndindex(*counts.shape):
                ink = "white" if shares[row, column] > 0.5 else "black"
                text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
                axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
            axis.set(xlabel="predicted", ylabel="true", title=title)
            axis.set_xticks(range(len(labels)), labels, rotation=30 if len(labels) > 3 else 0)
            axis.set_yticks(range(len(labels)), labels)


def roc(curves: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]], title: str, path: Path) -> None:
    """Draw ROC curves by name, with the chance line."""
    with _figure(path) as axis:
        for name, (false_positive, true_positive) in curves.items():
            axis.plot(false_positive, true_positive, label=name)
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
        axis.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
        axis.legend(loc="lower right")


def risk_coverage(points: Sequence[RiskPoint], path: Path) -> None:
    """Draw the error rate of the least suspicious pictures against their share of all pictures."""
    with _figure(path) as axis:
        axis.plot([point.coverage for point in points], [point.risk for point in points], marker="o")
        axis.set(xlabel="share of pictures answered, least suspicious first", ylabel="wrong answers among them")
        axis.set(xlim=(0, 1.02), ylim=(0, None), title="Risk against coverage, clean test pictures")


def reliability(series: Mapping[str, Sequence[tuple[float, float, int]]], path: Path) -> None:
    """Draw bins of (confidence, accuracy, pictures) by name; the points of a calibrated model are on the diagonal."""
    with _figure(path) as axis:
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="calibrated")
        for name, bins in series.items():
            confidence, accuracy, pictures = np.asarray(bins).T
            axis.scatter(confidence, accuracy, s=20 + 300 * pictures / pictures.sum(), alpha=0.6, label=name)
        axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        axis.set_title("Accuracy by confidence; larger: more pictures")
        axis.legend(loc="upper left")


def robustness(
    curves: Mapping[str, Mapping[StatedRadius, Rate]],
    worst: Mapping[StatedRadius, Rate],
    clean: float,
    chance: float,
    path: Path,
) -> None:
    """Draw each attack's robust accuracy by radius with its intervals; worst case, clean and chance."""
    with _figure(path, width=6) as axis:
        _by_radius(axis, curves)
        lowest = [rate.value for rate in worst.values()]
        axis.plot(
            [radius.number for radius in worst],
            lowest,
            color="black",
            linewidth=3,
            alpha=0.75,
            label="worst case",
            zorder=1,
        )
        axis.axhline(clean, color=GREY, label=f"clean {clean:.2f}")
        _finish(axis, chance, "Accuracy under attack")


def comparison(curves: Mapping[str, Mapping[StatedRadius, Rate]], chance: float, path: Path) -> None:
    """Draw each network's worst case by radius with its intervals; radius 0 is clean accuracy."""
    with _figure(path, width=6) as axis:
        _by_radius(axis, curves)
        _finish(axis, chance, "Clean (0) and worst case under attack")


def _by_radius(axis: Any, curves: Mapping[str, Mapping[StatedRadius, Rate]]) -> None:
    for name, rates in curves.items():
        values = [rate.value for rate in rates.values()]
        errors = [[r.value - r.low for r in rates.values()], [r.high - r.value for r in rates.values()]]
        axis.errorbar([radius.number for radius in rates], values, yerr=errors, marker="o", capsize=3, label=name)
    radii = sorted({radius for rates in curves.values() for radius in rates})
    axis.set_xticks([radius.number for radius in radii])
    axis.set_xlabel(f"epsilon ({radii[-1].unit.strip().replace('/', '1/')})")


def _finish(axis: Any, chance: float, title: str) -> None:
    axis.axhline(chance, color=GREY, linestyle=":", label=f"chance {chance:.2f}")
    axis.set(ylabel="robust accuracy", ylim=(0, 1), title=title)
    axis.figure.legend(loc="outside right center")


def amplified(images: npt.NDArray[np.float32], adversarial: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the perturbation times ten around grey, within 0..1."""
    return np.asarray(np.clip(0.5 + 10 * (adversarial - images), 0, 1), np.float32)


def triptych(
    images: npt.NDArray[np.float32],
    adversarial: npt.NDArray[np.float32],
    captions: Sequence[tuple[str, str]],
    path: Path,
) -> None:
    """Draw one row per picture: clean, perturbation times ten around grey, attacked; captions (clean, attacked)."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.4, 2.3 * len(images)), layout="constrained")
        axes = figure.subplots(len(images), 3, squeeze=False)
        for row, clean, attacked, (before, after) in zip(axes, images, adversarial, captions, strict=True):
            titles = (before, "perturbation × 10", after)
            for axis, picture, title in zip(row, (clean, amplified(clean, attacked), attacked), titles, strict=True):
                axis.imshow(picture, interpolation="nearest")
                axis.set_title(title, fontsize=8, fontweight="normal", loc="center")
                axis.set_axis_off()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def bars(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], label: str, path: Path) -> None:
    """Draw one panel per title with one bar per name: (value, low, high), labelled with the value."""
    with _figure(path, len(panels), width=4.6, height=3.2) as axes:
        for axis, (title, rows) in zip(np.atleast_1d(axes), panels.items(), strict=True):
            values, low, high = np.asarray(list(rows.values())).T
            # Bars with the same first word in their name have the same colour.
            owners = list(dict.fromkeys(name.split()[0] for name in rows))
            colours = [COLOURS[owners.index(name.split()[0])] for name in rows]
            axis.barh(list(rows), values, xerr=(values - low, high - values), color=colours, capsize=3)
            for row, (value, end) in enumerate(zip(values, high, strict=True)):
                axis.annotate(f"{value:.3g}", (end, row), (4, 0), textcoords="offset points", va="center")
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.set_xlim(left=0)
            axis.grid(visible=False, axis="y")
            axis.set(title=title, xlabel=label)
