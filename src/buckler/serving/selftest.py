"""Reference pictures with the answers a model gave when it was judged: the service asks again after loading.

Digests prove that the bytes are those that were judged, not that this machine computes with them what that one did: a
runtime, a processor or a library may differ. The pictures are drawn from a seed, nobody's skin; the file lies in the
release's ``model/``, so that the signed digest covers it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.errors import SelfTestError
from buckler.models import runtime
from buckler.serving.predictor import Predictor
from buckler.trust import digests, verdict

FILE = "selftest.npz"
INFO_FILE = "model.json"
PICTURES = 6
# Room for another processor's kernels at a lower precision. Other weights, swapped colours or a skipped normalisation
# are seen long before; an answer moves by at most a twentieth of its odds within it.
ABSOLUTE, RELATIVE = 0.05, 0.02
DRAWS, DEVIATIONS = 16, 6.0  # of a network that answers at random, and how far from their mean one may lie
SMALLEST_SHARE = 1e-30

Measured = npt.NDArray[np.float64]  # (pictures, classes + 1): log-probabilities, then the detector's score


def write(model: Path) -> None:
    """Ask the model in the directory ``model`` about pictures from a seed and keep its answers there.

    Each precision in which it may serve has answers of its own: what one processor computes in eight bits, another
    may compute in float32.

    Raises:
        ModelError: The model cannot be loaded.
    """
    arrays: dict[str, Any] = {}
    for precision in runtime.offered(model) or (None,):
        predictor = Predictor.of(model, _nobodys_word(model), precision=precision)
        arrays["pictures"] = pictures = draw_pictures(predictor.image_size)
        draws = np.stack([_measure(predictor, pictures) for _ in range(DRAWS if _is_randomised(model) else 1)])
        expected = draws.mean(axis=0)
        arrays[f"expected_{predictor.precision}"] = expected
        arrays[f"tolerance_{predictor.precision}"] = (
            ABSOLUTE + RELATIVE * np.abs(expected) + DEVIATIONS * draws.std(axis=0)
        )
    np.savez_compressed(model / FILE, **arrays)


def check(predictor: Predictor, model: Path) -> None:
    """Ask ``predictor`` about the reference pictures in the directory ``model``.

    Raises:
        SelfTestError: There are none, or it answers otherwise than when it was judged.
    """
    reference = _read(model / FILE, predictor.precision)
    found = _measure(predictor, reference["pictures"])
    expected, tolerance = reference["expected"], reference["tolerance"]
    if found.shape != expected.shape:
        raise SelfTestError(f"expected answers of shape {expected.shape}, as when it was judged, got {found.shape}")
    # Not "farther than": NaN, which a broken kernel gives, is farther than nothing.
    wrong = ~(np.abs(found - expected) <= tolerance)
    if wrong.any():
        picture, column = (int(place[0]) for place in np.nonzero(wrong))
        what = [*(f"log-probability of {label}" for label in predictor.labels), "detector score"][column]
        raise SelfTestError(
            f"reference picture {picture}: expected a {what} of {expected[picture, column]:.4f}"
            f" +- {tolerance[picture, column]:.4f}, as when it was judged, got {found[picture, column]:.4f};"
            f" {int(wrong.sum())} of {wrong.size} numbers differ: this machine's runtime computes something else"
        )


def is_known(model: Path, shares: Sequence[float], picture: int) -> bool:
    """Tell whether ``shares`` are what some precision of the model answered to reference picture ``picture``.

    Whoever asks a service does not see in which precision it computes; another model is none of them.

    Args:
        model: A release's ``model/``.
        shares: The probabilities, in the order of the labels.
        picture: Its place in ``reference_pictures``.

    Raises:
        SelfTestError: There are no reference pictures.
    """
    found = np.log(np.maximum(shares, SMALLEST_SHARE))
    references = [_read(model / FILE, precision) for precision in _precisions(model / FILE)]
    return any(
        bool(
            np.all(
                np.abs(found - reference["expected"][picture][: len(found)])
                <= reference["tolerance"][picture][: len(found)]
            )
        )
        for reference in references
    )


def reference_pictures(model: Path) -> npt.NDArray[np.uint8]:
    """Return the reference pictures in the directory ``model``, ``(n, size, size, 3)``.

    Raises:
        SelfTestError: There are none.
    """
    return np.asarray(_read(model / FILE, _precisions(model / FILE)[0])["pictures"], np.uint8)


def draw_pictures(size: int, *, count: int = PICTURES, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return ``(count, size, size, 3)``: a dark spot on a lighter ground with some noise, all colours from the seed."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[0:size, 0:size] / size
    pictures = []
    for _ in range(count):
        y, x, radius = generator.uniform(0.3, 0.7), generator.uniform(0.3, 0.7), generator.uniform(0.1, 0.35)
        spot = np.exp(-((down - y) ** 2 + (across - x) ** 2) / radius**2)[..., None]
        ground, dark = generator.uniform(140, 255, 3), generator.uniform(0, 140, 3)
        noise = generator.normal(0, generator.uniform(1, 20), (size, size, 3))
        pictures.append((1 - spot) * ground + spot * dark + noise)
    return np.asarray(np.clip(pictures, 0, 255), np.uint8)


def _measure(predictor: Predictor, pictures: npt.NDArray[np.uint8]) -> Measured:
    rows: list[Sequence[float]] = []
    for picture in pictures:
        prediction = predictor(np.asarray(picture / 255, np.float32))
        shares = [prediction.probabilities[label] for label in predictor.labels]
        # Logits but for a constant: a probability near one would hide what changed behind it.
        rows.append([*np.log(np.maximum(shares, SMALLEST_SHARE)), prediction.score])
    return np.asarray(rows, np.float64)


def _read(path: Path, precision: str) -> Mapping[str, npt.NDArray[Any]]:
    names = {"pictures": "pictures"} | {name: f"{name}_{precision}" for name in ("expected", "tolerance")}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[kept] for name, kept in names.items()}
    except FileNotFoundError as error:
        raise SelfTestError(f"expected reference pictures in {path}; run the gate again (`dvc repro`)") from error
    except (OSError, KeyError, ValueError) as error:
        raise SelfTestError(f"{path} does not hold reference pictures and answers: {error!r}") from error


def _precisions(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = sorted(name.removeprefix("expected_") for name in arrays.files if name.startswith("expected_"))
    except (OSError, ValueError) as error:
        raise SelfTestError(f"expected reference pictures in {path}: {error!r}") from error
    if not found:
        raise SelfTestError(f"expected answers to reference pictures in {path}, there are none")
    return found


def _is_randomised(model: Path) -> bool:
    # As JSON: the models' own reader would bring the reference's engine along, which a service need not have.
    return bool(json.loads((model / INFO_FILE).read_bytes()).get("defence") == "randomised")


def _nobodys_word(model: Path) -> verdict.Verdict:
    """Return a verdict that says nothing: the gate's comes after this, about these bytes too."""
    now = datetime.now(UTC)
    return verdict.Verdict(
        "", digests.directory_digest(model), passed=False, issued_at=now, expires_at=now, statement={}
    )
