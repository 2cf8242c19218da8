"""Detects attacked pictures by the features and logits of the forward pass that classified them.

The score is linear and combines two signals:

- Directions. An attack changes the deep features in other directions than noise or JPEG compression. The detector
  learns one direction for each answer, from clean training pictures and the same pictures after one FGSM step.
- Surprise. A linear probe, fitted on clean pictures alone, predicts the logits from the features of middle blocks,
  which small changes hardly move. Iterated attacks drive the logits far from this prediction.

No iterated attack, other norm or black-box attack is used to fit the detector, and no attacked picture to set its
threshold (`buckler.detection.threshold`).

Source: Alain & Bengio, "Understanding intermediate layers using linear classifier probes", arXiv 1610.01644, for the
probe; Metzen et al., "On detecting adversarial perturbations", arXiv 1702.04267, for a discriminator on inner features.
An attacker who knows a detector evades it (Carlini & Wagner, arXiv 1705.07263); `buckler.evaluation.evasion` measures
how far this detector is evaded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from buckler.detection.threshold import Scores
from buckler.modality.base import Labels
from buckler.models.forward import Columns, Features, Forward, Logits

RIDGE = 1000.0
INVERSE_PENALTY = 1e-3
# Scale of the surprises relative to the features in the regression: at equal scale, the penalty would favour the
# thousands of features over the few surprises.
SURPRISE_SCALE = 10.0
MAX_SURPRISE = 30.0  # standard deviations; larger surprises are clipped
LEVEL_QUANTILE = 0.8  # of the clean scores: near the tail, with a fifth of the pictures above it
MIN_TO_LEVEL = 30  # clean pictures of an answer


@dataclass(frozen=True, slots=True)
class AdversarialDetector:
    """A fitted detector.

    Attributes:
        read: Columns of the features for the directions, ``(d,)``.
        probed: Columns of the features for the probe, ``(p,)``.
        offset, scale: Mean and standard deviation of the features ``read`` over unattacked pictures, ``(d,)``.
        directions: Weights of the scaled features, one row for each answer, ``(classes, d)``.
        probe, expected: The probe predicts the logits ``features[probed] @ probe + expected``; ``(p, classes)``,
            ``(classes,)``.
        spread: Standard deviation of the probe's error on clean pictures, ``(classes,)``.
        surprise: Weights of the absolute error, in units of ``spread``, and of its square, ``(2, classes)``.
        bias: Bias of the score for each answer, ``(classes,)``.
    """

    read: Columns
    probed: Columns
    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    probe: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]
    surprise: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @classmethod
    def fit(
        cls, clean: Forward, benign: Iterable[Forward], attacked: Iterable[Forward], *, read: Columns, probed: Columns
    ) -> "AdversarialDetector":
        """Return a detector fitted on passes over training pictures.

        Args:
            clean: Unchanged pictures; the more, the better the probe.
            benign: Some of them: unchanged, with noise, and recompressed.
            attacked: The same pictures, attacked.
            read: Columns of the features for the directions.
            probed: Columns of the features for the probe.

        Raises:
            ValueError: Attacked or unattacked pictures are missing.
        """
        sides = [list(benign), list(attacked)]
        if not all(sides):
            raise ValueError("expected both attacked and unattacked pictures to fit a detector")
        unattacked, under_attack = (_concatenated(passes) for passes in sides)
        probe, expected, spread = _fit_probe(clean, probed)
        features = unattacked.features.take(read, axis=1)
        offset, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        rows = np.concatenate(
            [
                _design(
                    (f.features.take(read, axis=1) - offset) / scale,
                    f.logits,
                    _surprise(f, probed, probe, expected, spread),
                )
                for f in (unattacked, under_attack)
            ]
        )
        truth = np.repeat([0, 1], [len(unattacked.logits), len(under_attack.logits)])
        weights, bias = _regress(rows, truth)
        width, classes = len(read), clean.logits.shape[1]
        # The weights for all pictures and those for one answer apply to the same features: add them.
        directions = weights[:width] + weights[width : width * (1 + classes)].reshape(classes, width)
        surprise = SURPRISE_SCALE * weights[width * (1 + classes) :].reshape(2, classes)
        arrays = (offset, scale, directions, probe, expected, spread, surprise, np.repeat(bias, classes))
        return cls(read, probed, *(np.asarray(array, np.float32) for array in arrays))

    def levelled(self, clean: Forward) -> "AdversarialDetector":
        """Return a detector whose clean scores have the same `LEVEL_QUANTILE` for every answer.

        Without this shift, one threshold would flag mostly clean pictures of one class. An answer with fewer than
        `MIN_TO_LEVEL` pictures is not shifted.

        Args:
            clean: Pass over clean pictures that were used to fit neither the network nor the detector.
        """
        scores, answers = self.score(clean), clean.logits.argmax(axis=1)
        of_all = np.quantile(scores, LEVEL_QUANTILE)
        bias = self.bias.copy()
        for answer in range(len(bias)):
            own = scores[answers == answer]
            if len(own) >= MIN_TO_LEVEL:
                bias[answer] += of_all - np.quantile(own, LEVEL_QUANTILE)
        return replace(self, bias=bias)

    def score(self, forward: Forward) -> Scores:
        """Return the score of each picture, ``(n,)``: log-odds of an attack as fitted, shifted by ``levelled``."""
        answers = forward.logits.argmax(axis=1)
        scaled = (forward.features.take(self.read, axis=1) - self.offset) / self.scale
        traces = (scaled * self.directions[answers]).sum(axis=1)
        surprise = _surprise(forward, self.probed, self.probe, self.expected, self.spread)
        return np.asarray(traces + surprise @ self.surprise.ravel() + self.bias[answers], np.float64)


def _regress(rows: npt.NDArray[np.float64], truth: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weights ``(width,)`` and the intercept ``(1,)`` of the penalised logistic regression.

    The penalty keeps the weights in the space that the rows span. The problem is solved exactly in that space: an
    iterative solver that stops early would amplify rounding differences of the features.
    """
    from sklearn.linear_model import LogisticRegression  # the service, which only loads detectors, lacks it

    basis = _spanned(rows)
    model = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", class_weight="balanced")
    fitted = model.fit(rows @ basis, truth)
    return basis @ fitted.coef_[0], fitted.intercept_


def _spanned(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return an orthonormal basis, ``(columns, rank)``, of the space that ``rows`` span."""
    wide = rows.shape[1] > rows.shape[0]
    # The eigenvectors of the smaller of the two products: the larger one takes a minute with thousands of rows.
    squares, directions = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = squares > squares.max() * 1e-12
    found = directions[:, kept]
    return np.asarray(rows.T @ (found / np.sqrt(squares[kept])) if wide else found)


def _fit_probe(clean: Forward, probed: Columns) -> tuple[Features, Logits, npt.NDArray[np.float32]]:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = clean.features.take(probed, axis=1)
    model = make_pipeline(StandardScaler(), Ridge(RIDGE))
    # Cross-validation: the probe's error on pictures to which it was not fitted.
    spread = (clean.logits - cross_val_predict(model, features, clean.logits, cv=_folds(len(features)))).std(axis=0)
    scaler, ridge = model.fit(features, clean.logits).steps[0][1], model.steps[1][1]
    probe = (ridge.coef_ / scaler.scale_).T
    return probe, ridge.intercept_ - scaler.mean_ @ probe, spread + 1e-6


def _folds(count: int) -> object:
    from sklearn.model_selection import KFold

    return KFold(min(5, count), shuffle=True, random_state=0)


def _surprise(
    forward: Forward, probed: Columns, probe: Features, expected: Logits, spread: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``(n, 2 classes)``: the probe's absolute error in units of ``spread``, then a third of its square."""
    predicted = forward.features.take(probed, axis=1) @ probe + expected
    error = np.abs(forward.logits - predicted) / spread
    return np.asarray(np.minimum(np.concatenate([error, error**2 / 3], axis=1), MAX_SURPRISE), np.float32)


def _design(scaled: Features, logits: Logits, surprise: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the columns of the regression: the features, the features of each answer's pictures, the surprise."""
    answers = logits.argmax(axis=1)
    of_answers = [scaled * (answers == answer)[:, None] for answer in range(logits.shape[1])]
    return np.concatenate([scaled, *of_answers, SURPRISE_SCALE * surprise], axis=1, dtype=np.float64)


def _concatenated(passes: list[Forward]) -> Forward:
    return Forward(np.concatenate([p.logits for p in passes]), np.concatenate([p.features for p in passes]))
