"""Tells attacked pictures from clean ones by the features and logits of the pass that classified them.

Two things give an attack away. What its steps leave in the deep features differs from what noise or JPEG leave: a
direction for each answer, learnt from clean training pictures and from the same pictures after one FGSM step. And its
answer does not follow from the middle of the network: a linear probe, fitted on clean pictures alone, says what
logits to expect from the features of blocks 3 and 4, which small changes hardly move; iterated attacks drive the
logits far beyond. One linear score weighs both. No attack that iterates, no other norm, no black box is ever shown to
it, and no attacked picture decides where the line is drawn (`buckler.detection.threshold`).

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
from buckler.models.forward import Features, Forward, Logits, slices

PROBED = (2, 3)  # blocks that the logits are foretold from, counted from zero
READ = (2, 3, 4)  # blocks whose features are read for the steps' own traces
RIDGE = 1000.0
INVERSE_PENALTY = 1e-3
# How much a surprise counts beside a feature, before the weights are learnt: penalised alike, few would be drowned
# by thousands.
SURPRISE = 10.0
LARGEST_SURPRISE = 30.0  # standard deviations; beyond, nothing more is to be learnt
LEVELLED_AT = 0.8  # the quantile of clean scores that is made equal: near the tail, yet on a fifth of the pictures
FEWEST_TO_LEVEL = 30  # clean pictures of an answer; fewer would say little about it


@dataclass(frozen=True, slots=True)
class Detector:
    """A fitted detector.

    Attributes:
        offset, scale: Of the features read, mean and standard deviation among innocent pictures, ``(d,)``.
        directions: What the scaled features are weighed with, a row for each answer, ``(classes, d)``.
        probe, expected: The logits foretold are ``features @ probe + expected``; ``(p, classes)``, ``(classes,)``.
        spread: Standard deviation of what clean logits differ from those foretold, ``(classes,)``.
        surprise: Weights of that difference's size and of its square, ``(2, classes)``.
        bias: Of the score, one for each answer, ``(classes,)``.
    """

    offset: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    probe: npt.NDArray[np.float32]
    expected: npt.NDArray[np.float32]
    spread: npt.NDArray[np.float32]
    surprise: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, clean: Forward, harmless: Iterable[Forward], attacked: Iterable[Forward]) -> "Detector":
        """Return the detector of what a network made of its training pictures.

        Args:
            clean: As they are; the more, the better the probe.
            harmless: Some of them, unattacked, as they are and as noise and compression leave them.
            attacked: The same, attacked.

        Raises:
            ValueError: There is nothing to tell apart.
        """
        sides = [list(harmless), list(attacked)]
        if not all(sides):
            raise ValueError("expected both attacked and unattacked pictures to fit a detector on")
        innocent, guilty = (_together(passes) for passes in sides)
        probe, expected, spread = _fit_probe(clean)
        read = _blocks(innocent.features, READ)
        offset, scale = read.mean(axis=0), read.std(axis=0) + 1e-6
        rows = np.concatenate(
            [
                _design((_blocks(f.features, READ) - offset) / scale, f.logits, _surprise(f, probe, expected, spread))
                for f in (innocent, guilty)
            ]
        )
        truth = np.repeat([0, 1], [len(innocent.logits), len(guilty.logits)])
        weights, bias = _weigh(rows, truth)
        width, classes = read.shape[1], clean.logits.shape[1]
        # The weights of all pictures and those of one answer meet in the same features.
        directions = weights[:width] + weights[width : width * (1 + classes)].reshape(classes, width)
        surprise = SURPRISE * weights[width * (1 + classes) :].reshape(2, classes)
        arrays = (offset, scale, directions, probe, expected, spread, surprise, np.repeat(bias, classes))
        return cls(*(np.asarray(array, np.float32) for array in arrays))

    def levelled(self, clean: Forward) -> "Detector":
        """Return it with scores shifted so that clean pictures of every answer are about equally suspicious.

        One line through all scores would otherwise flag mostly one class. A quantile of each answer's scores is laid
        on that of all; an answer with few pictures stays where it is.

        Args:
            clean: What the network made of clean pictures that neither it nor the detector learnt from.
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
        """Return how suspicious each picture of ``forward`` is, ``(n,)``: log-odds of an attack, as fitted, shifted."""
        answers = forward.logits.argmax(axis=1)
        scaled = (_blocks(forward.features, READ) - self.offset) / self.scale
        traces = (scaled * self.directions[answers]).sum(axis=1)
        surprise = _surprise(forward, self.probe, self.expected, self.spread)
        return np.asarray(traces + surprise @ self.surprise.ravel() + self.bias[answers], np.float64)


def _weigh(rows: npt.NDArray[np.float64], truth: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the weights ``(width,)`` and the intercept ``(1,)`` of the penalised logistic regression.

    There are more columns than rows. The penalty keeps the weights in the space that the rows span, so it is solved
    there, exactly: a search that stops early gives another detector for features that differ by a rounding.
    """
    from sklearn.linear_model import LogisticRegression  # fitting only, as in `Clouds`

    squares, directions = np.linalg.eigh(rows @ rows.T)
    kept = squares > squares.max() * 1e-12
    lengths, spanned = np.sqrt(squares[kept]), directions[:, kept]
    model = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", class_weight="balanced")
    fitted = model.fit(spanned * lengths, truth)
    return rows.T @ (spanned @ (fitted.coef_[0] / lengths)), fitted.intercept_


def _fit_probe(clean: Forward) -> tuple[Features, Logits, npt.NDArray[np.float32]]:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = _blocks(clean.features, PROBED)
    model = make_pipeline(StandardScaler(), Ridge(RIDGE))
    # What a probe is off by on pictures that it was not fitted on.
    spread = (clean.logits - cross_val_predict(model, features, clean.logits, cv=_folds(len(features)))).std(axis=0)
    scaler, ridge = model.fit(features, clean.logits).steps[0][1], model.steps[1][1]
    probe = (ridge.coef_ / scaler.scale_).T
    return probe, ridge.intercept_ - scaler.mean_ @ probe, spread + 1e-6


def _folds(count: int) -> object:
    from sklearn.model_selection import KFold

    return KFold(min(5, count), shuffle=True, random_state=0)


def _surprise(
    forward: Forward, probe: Features, expected: Logits, spread: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``(n, 2 classes)``: how far the logits are from those foretold, and a third of its square."""
    foretold = _blocks(forward.features, PROBED) @ probe + expected
    off = np.abs(forward.logits - foretold) / spread
    return np.asarray(np.minimum(np.concatenate([off, off**2 / 3], axis=1), LARGEST_SURPRISE), np.float32)


def _design(scaled: Features, logits: Logits, surprise: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return what the weights are learnt for: the features, the features again a class apart, the surprise."""
    answers = logits.argmax(axis=1)
    apart = [scaled * (answers == place)[:, None] for place in range(logits.shape[1])]
    return np.concatenate([scaled, *apart, SURPRISE * surprise], axis=1, dtype=np.float64)


def _blocks(features: Features, blocks: tuple[int, ...]) -> Features:
    places = slices()
    return np.concatenate([features[:, places[block]] for block in blocks], axis=1)


def _together(passes: list[Forward]) -> Forward:
    return Forward(np.concatenate([p.logits for p in passes]), np.concatenate([p.features for p in passes]))
