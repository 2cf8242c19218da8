"""Reference pictures with the model's answers at its gate, which the service compares with its own after loading.

Digests prove that the files are those of the gate, but not that this machine computes the same with them: runtime,
processor or library may differ. The pictures are generated from a seed and show no patient; the file is part of the
release's ``model/``, so that the signed digest covers it.
"""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from buckler.errors import ModelError, SelfTestError
from buckler.models import runtime
from buckler.serving.predictor import Predictor
from buckler.state.locations import Location
from buckler.trust import digests, verdict

FILE = "selftest.npz"
INFO_FILE = "model.json"
PICTURES = 6
# Tolerance for another processor's kernels at a lower precision. Other weights, swapped colours or a skipped
# normalisation exceed it by far; within it, the odds of an answer change by at most a twentieth.
ABSOLUTE, RELATIVE = 0.05, 0.02
DRAWS, DEVIATIONS = 16, 6.0  # answers drawn from a randomised network, and the allowed distance from their mean
SMALLEST_SHARE = 1e-30

Steps = npt.NDArray[np.unsignedinteger[Any]]  # (n, ...)
Measured = npt.NDArray[np.float64]  # (pictures, classes + 1): log-probabilities, then the detector's score


def write(model: Path) -> None:
    """Store reference pictures and the model's answers to them in the directory ``model``.

    Each precision in which it may serve has its own answers, because processors differ in the precision they use.

    Raises:
        ModelError: The model cannot be loaded, or its answers are not finite.
    """
    arrays: dict[str, Any] = {}
    for precision in runtime.offered(model) or (None,):
        predictor = Predictor.of(model, _placeholder_verdict(model), precision=precision)
        form = predictor.form
        arrays["pictures"] = pictures = form.modality.unit.steps_of(form.modality.references(PICTURES, form.shape, 0))
        draws = np.stack([_measure(predictor, pictures) for _ in range(DRAWS if _is_randomised(model) else 1)])
        expected = draws.mean(axis=0)
        if not np.isfinite(expected).all():
            raise ModelError("expected finite answers to the reference pictures, got NaN or infinite ones; train again")
        arrays[f"expected_{predictor.precision}"] = expected
        arrays[f"tolerance_{predictor.precision}"] = (
            ABSOLUTE + RELATIVE * np.abs(expected) + DEVIATIONS * draws.std(axis=0)
        )
    np.savez_compressed(model / FILE, **arrays)


def check(predictor: Predictor, model: Location) -> None:
    """Compare the answers of ``predictor`` to the reference pictures in the directory ``model``.

    Raises:
        SelfTestError: There are no reference pictures, or the answers differ from those at the gate.
    """
    reference = _read(model / FILE, predictor.precision)
    found = _measure(predictor, reference["pictures"])
    expected, tolerance = reference["expected"], reference["tolerance"]
    if found.shape != expected.shape:
        raise SelfTestError(f"expected answers of shape {expected.shape}, as at the gate, got {found.shape}")
    # Written so that NaN, which a broken kernel may return, counts as wrong.
    wrong = ~(np.abs(found - expected) <= tolerance)
    if wrong.any():
        picture, column = (int(place[0]) for place in np.nonzero(wrong))
        quantity = [*(f"log-probability of {label}" for label in predictor.labels), "detector score"][column]
        raise SelfTestError(
            f"reference picture {picture}: expected a {quantity} of {expected[picture, column]:.4f}"
            f" +- {tolerance[picture, column]:.4f}, as at the gate, got {found[picture, column]:.4f};"
            f" {int(wrong.sum())} of {wrong.size} numbers differ: this machine's runtime computes differently"
        )


def is_known(model: Location, shares: Sequence[float], picture: int) -> bool:
    """Return whether ``shares`` match the model's answer to a reference picture in any of its precisions.

    A client cannot see in which precision a service computes; another model matches none of them.

    Args:
        model: The directory ``model/`` of a release.
        shares: Probabilities in the order of the labels.
        picture: Index in ``reference_pictures``.

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


def reference_pictures(model: Location) -> Steps:
    """Return the reference pictures in the directory ``model``, ``(n, ...)``, in steps of their modality's grid.

    Raises:
        SelfTestError: There are none.
    """
    return _read(model / FILE, _precisions(model / FILE)[0])["pictures"]


def _measure(predictor: Predictor, pictures: Steps) -> Measured:
    rows: list[Sequence[float]] = []
    for values in predictor.form.modality.unit.values_of(pictures):
        prediction = predictor(values)
        shares = [prediction.probabilities[label] for label in predictor.labels]
        # Logits up to a constant: a probability near one would hide differences.
        rows.append([*np.log(np.maximum(shares, SMALLEST_SHARE)), prediction.score])
    return np.asarray(rows, np.float64)


def _read(path: Location, precision: str) -> Mapping[str, npt.NDArray[Any]]:
    names = {"pictures": "pictures"} | {name: f"{name}_{precision}" for name in ("expected", "tolerance")}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[kept] for name, kept in names.items()}
    except FileNotFoundError as error:
        raise SelfTestError(f"expected reference pictures in {path}; run `dvc repro`") from error
    except (OSError, KeyError, ValueError) as error:
        raise SelfTestError(f"{path} does not contain reference pictures and answers: {error!r}") from error


def _precisions(path: Location) -> list[str]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            found = sorted(name.removeprefix("expected_") for name in arrays.files if name.startswith("expected_"))
    except (OSError, ValueError) as error:
        raise SelfTestError(f"expected reference pictures in {path}: {error!r}") from error
    if not found:
        raise SelfTestError(f"expected answers to reference pictures in {path}, got none")
    return found


def _is_randomised(model: Path) -> bool:
    # Read as JSON: the reader in `models` would import TensorFlow, which a service may lack.
    return bool(json.loads((model / INFO_FILE).read_bytes()).get("defence") == "randomised")


def _placeholder_verdict(model: Path) -> verdict.Verdict:
    """Return an empty verdict: the gate issues the real one later, for bytes that include this file."""
    now, files = datetime.now(UTC), digests.file_digests(model)
    return verdict.Verdict(
        model=verdict.JudgedModel("", digests.digest_of(files)),
        passed=False,
        reasons=(),
        notes=(),
        policy={},
        issued_at=now,
        expires_at=now,
        source=verdict.Source(None, False),
        evidence={},
        measured={},
        id="",
        files=files,
    )
