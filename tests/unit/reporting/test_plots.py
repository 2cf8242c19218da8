import numpy as np
import pytest
from PIL import Image

from buckler.evaluation.statistics import wilson
from buckler.radius import StatedRadius
from buckler.reporting import plots

pytestmark = pytest.mark.slow


def drawn(path):
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels.shape[0] > 200 and pixels.shape[1] > 200 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_every_plot_draws_a_picture(tmp_path):
    history = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "val_loss": 1 / e, "val_accuracy": 0.6} for e in (1, 2)]
    plots.training_curves(history, tmp_path / "new/training.png")
    plots.confusion([[3, 1], [0, 4]], ("benign", "malignant"), "Clean", tmp_path / "confusion.png")
    matrix = np.eye(7, dtype=int).tolist()
    plots.confusions({"a": matrix, "b": matrix}, [f"class {i}" for i in range(7)], tmp_path / "seven.png")
    plots.roc({"fgsm@1/255": (np.array([0, 1.0]), np.array([0, 1.0]))}, "ROC", tmp_path / "roc.png")
    bins = [(0.6, 0.5, 10), (0.9, 0.8, 30)]
    plots.reliability({"network": bins, "as served": bins[:1]}, tmp_path / "reliability.png")
    rates = {StatedRadius(1): wilson(3, 10), StatedRadius(2): wilson(0, 10)}
    plots.robustness({"fgsm": rates}, rates, 0.9, 0.5, tmp_path / "robustness.png")
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    plots.triptych(images, images, [("clean", "attacked")] * 2, tmp_path / "triptych.png")
    made = sorted(tmp_path.rglob("*.png"))
    assert len(made) == 7
    assert all(drawn(path) for path in made)


def test_the_triptych_shows_the_perturbation_ten_times(tmp_path):
    images = np.full((1, 32, 32, 3), 0.5, np.float32)
    plots.triptych(images, images + 5 / 255, [("clean", "attacked")], tmp_path / "triptych.png")
    with Image.open(tmp_path / "triptych.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    left, middle, right = (pixels[pixels.shape[0] // 2, int(pixels.shape[1] * x), 0] for x in (1 / 6, 1 / 2, 5 / 6))
    assert int(right) - int(left) == 5
    assert abs(int(middle) - 178) <= 1


def test_bars_are_as_long_as_their_values_and_keep_their_order(tmp_path):
    panels = {"one": {"long a": (8.0, 8.0, 8.0), "short b": (2.0, 2.0, 2.0)}}
    plots.bars(panels, "images per second", tmp_path / "new/bars.png")
    with Image.open(tmp_path / "new/bars.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    inked = [(pixels == np.array(bytearray.fromhex(colour[1:]))).all(axis=2) for colour in plots.COLOURS[:2]]
    long, short = (ink.sum(axis=1).max() for ink in inked)
    assert abs(long / short - 4) < 0.1
    first, second = (np.flatnonzero(ink.any(axis=1)).mean() for ink in inked)
    assert first < second
