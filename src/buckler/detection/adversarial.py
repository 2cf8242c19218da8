"""Detects attacked pictures by the features and logits of the pass that classified them.

Two things reveal an attack. Its steps change the deep features in other directions than noise or JPEG do: one
direction for each answer is learnt from clean training pictures and from the same pictures after one FGSM step. And
its logits do not follow from the middle of the network: a linear probe, fitted on clean pictures alone, predicts the
logits from the features of middle blocks, which small changes hardly move; iterated attacks drive the logits far
beyond. One linear score combines both. The detector is fitted without iterated attacks, other norms and black-box
attacks, and its threshold without any attacked picture (`buckler.detection.threshold`).

Source: the probe: Alain & Bengio, "Understanding intermediate layers using linear classifier probes", arXiv
1610.01644; a discriminator on inner features: Metzen et al., "On detecting adversarial perturbations", arXiv
1702.04267. That an attacker who knows a detector evades it: Carlini & Wagner, arXiv 1705.07263; see
`buckler.evaluation.evasion` for how far this one is evaded.
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
# Scale of a surprise relative to a feature before the regression: at equal scale, the penalty would favour the
# thousands of features over the few surprises.
SURPRISE = 10.0
LARGEST_SURPRISE = 30.0  # standard deviations; larger ones are clipped
LEVELLED_AT = 0.8  # quantile of clean scores that is made equal: near the tail, yet above a fifth of the pictures
FEWEST_TO_LEVEL = 30  # clean pictures of an answer


@dataclass(frozen=True, slots=True)
class AdversarialDetector:
    """A fitted detector.

    Attributes:
        read: Columns of the features that are searched for traces of an attack, ``(d,)``.
        probed: Columns of the features that the logits are predicted from, ``(p,)``.
        offset, scale: Mean and standard deviation of the features ``read`` among clean pictures, ``(d,)``.
        directions: Weights of the scaled features, a row for each answer, ``(classes, d)``.
        probe, expected: Predicted logits are ``probed @ probe + expected``; ``(p, classes)``, ``(classes,)``.
        spread: Standard deviation of clean logits about the predicted ones, ``(classes,)``.
        surprise: Weights of that difference's size and of its square, ``(2, classes)``.
        bias: Of the score, one for each answer, ``(classes,)``.
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
        cls, clean: Forward, harmless: Iterable[Forward], attacked: Iterable[Forward], *, read: Columns, probed: Columns
    ) -> "AdversarialDetector":
        """Return the detector fitted on passes over training pictures.

        Args:
            clean: The pictures as they are; the more, the better the probe.
            harmless: Some of them as they are, with noise and recompressed.
            attacked: The same, attacked.
            read: Columns of the features to search for traces of an attack.
            probed: Columns of the features to predict the logits from.

        Raises:
            ValueError: Attacked or unattacked pictures are missing.
        """
        sides = [list(harmless), list(attacked)]
        if not all(sides):
            raise ValueError("expected both attacked and unattacked pictures to fit a detector on")
        innocent, guilty = (_together(passes) for passes in sides)
        probe, expected, spread = _fit_probe(clean, probed)
        seen = innocent.features.take(read, axis=1)
        offset, scale = seen.mean(axis=0), seen.std(axis=0) + 1e-6
        rows = np.concatenate(
            [
                _design(
                    (f.features.take(read, axis=1) - offset) / scale,
                    f.logits,
                    _surprise(f, probed, probe, expected, spread),
                )
                for f in (innocent, guilty)
            ]
        )
        truth = np.repeat([0, 1], [len(innocent.logits), len(guilty.logits)])
        weights, bias = _weigh(rows, truth)
        width, classes = len(read), clean.logits.shape[1]
        # Weights for all pictures and weights for one answer apply to the same features.
        directions = weights[:width] + weights[width : width * (1 + classes)].reshape(classes, width)
        surprise = SURPRISE * weights[width * (1 + classes) :].reshape(2, classes)
        arrays = (offset, scale, directions, probe, expected, spread, surprise, np.repeat(bias, classes))
        return cls(read, probed, *(np.asarray(array, np.float32) for array in arrays))

    def levelled(self, clean: Forward) -> "AdversarialDetector":
        """Return a detector with scores shifted so that clean pictures of every answer are about equally suspicious.

        Without it, one threshold would flag mostly one class. A quantile of each answer's scores moves to the same
        quantile of all scores; an answer with few pictures is not shifted.

        Args:
            clean: Pass over clean pictures that neither the network nor the detector was fitted on.
        """
        scores, answers = self.score(clean), clean.logits.argmax(axis=1)
        of_all = np.quantile(scores, LEVELLED_AT)
        bias = self.bias.copy()
        for answer in range(len(bias)):
            own = scores[answers == answer]
            if len(own) >= FEWEST_TO_LEVEL:
                bias[answer] += of_all - np.quantile(own, LEVELLED_AT)
        return replace(self, bias=bias)

    def score(self, forward: Forward) -> Scores:
        """Return the score of each picture, ``(n,)``: log-odds of an attack as fitted, shifted by ``levelled``."""
        answers = forward.logits.argmax(axis=1)
        scaled = (forward.features.take(self.read, axis=1) - self.offset) / self.scale
        traces = (scaled * self.directions[answers]).sum(axis=1)
        surprise = _surprise(forward, self.probed, self.probe, self.expected, self.spread)
        return np.asarray(traces + surprise @ self.surprise.ravel() + self.bias[answers], np.float64)


def _weigh(rows: npt.NDArray[np.float64], truth: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weights ``(width,)`` and the intercept ``(1,)`` of the penalised logistic regression.

    There may be more columns than rows. The penalty keeps the weights in the space that the rows span, so the problem
    is solved there, exactly: an iterative solver that stops early amplifies rounding differences of the features.
    """
    from sklearn.linear_model import LogisticRegression  # fitting only, as in `OutOfDistributionDetector`

    squares, directions = np.linalg.eigh(rows @ rows.T)
    kept = squares > squares.max() * 1e-12
    lengths, spanned = np.sqrt(squares[kept]), directions[:, kept]
    model = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", class_weight="balanced")
    fitted = model.fit(spanned * lengths, truth)
    return rows.T @ (spanned @ (fitted.coef_[0] / lengths)), fitted.intercept_


def _fit_probe(clean: Forward, probed: Columns) -> tuple[Features, Logits, npt.NDArray[np.float32]]:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = clean.features.take(probed, axis=1)
    model = make_pipeline(StandardScaler(), Ridge(RIDGE))
    # The probe's error on pictures that it was not fitted on.
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
    """Return ``(n, 2 classes)``: how far the logits are from the predicted ones, and a third of its square."""
    predicted = forward.features.take(probed, axis=1) @ probe + expected
    off = np.abs(forward.logits - predicted) / spread
    return np.asarray(np.minimum(np.concatenate([off, off**2 / 3], axis=1), LARGEST_SURPRISE), np.float32)


def _design(scaled: Features, logits: Logits, surprise: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the columns of the regression: the features, the features again for each answer, the surprise."""
    answers = logits.argmax(axis=1)
    apart = [scaled * (answers == place)[:, None] for place in range(logits.shape[1])]
    return np.concatenate([scaled, *apart, SURPRISE * surprise], axis=1, dtype=np.float64)


def _together(passes: list[Forward]) -> Forward:
    return Forward(np.concatenate([p.logits for p in passes]), np.concatenate([p.features for p in passes]))
