"""Searches the pictures for the end of the demo, by fixed rules, with the released model on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.compute.machine import crafting_precision
from buckler.data import pictures
from buckler.data.pictures import Pictures
from buckler.detection.screening import Screening
from buckler.evaluation.evasion import OBJECTIVES, Evader, accepted_lead
from buckler.modality.base import LEVELS, Images
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.radius import StatedRadius
from buckler.serving.predictor import Prediction, Predictor
from buckler.trust import keys
from buckler.trust.verdict import MODEL_DIR

BATCH_SIZE = 32
TRIED = 128  # pictures of 64 pixels a side to attack; fewer larger ones, so that it takes as long
RADII = tuple(LEVELS.stated(levels) for levels in (1, 2, 4, 8))
UNSEEN = LEVELS.stated(2)  # largest radius of a change that the eye does not see
STEPS = 10
UNAWARE = "PGD"
AWARE = "PGD that knows the detector"


@dataclass(frozen=True, slots=True)
class Found:
    """A test picture and its attacked copy, both ``(size, size, 3)`` float32 in 0..1, at 8 bits.

    Attributes:
        name: Of the picture.
        truth: Its true label.
        attack: Name of the attack, for people.
        radius: Of the attack, L-infinity.
    """

    name: str
    truth: str
    clean: Images
    attacked: Images
    attack: str
    radius: StatedRadius


_Turned = tuple[Found, Prediction]  # and the answer to the attacked copy


@dataclass(frozen=True, slots=True)
class Candidates:
    """Dangerous test pictures that the model answers right, the surest first.

    Attributes:
        pictures: At most as many as `_most` allows; none if the model answers all wrong.
        about: Which pictures they were chosen from, in words.
    """

    pictures: Pictures
    about: str


class Search:
    """A release and its candidates.

    Attributes:
        predictor: Answers as the service does.
        candidates: The pictures to attack.
    """

    def __init__(self, predictor: Predictor, model: Path, test: Pictures) -> None:
        """Choose the candidates.

        Args:
            predictor: The released model.
            model: Its directory.
            test: The test pictures.
        """
        labels, dangerous = predictor.labels, predictor.info.dangerous
        self.predictor = predictor
        # Without a dangerous label, every wrong answer counts.
        self._harmless = [label for label in labels if label not in dangerous] if dangerous else list(labels)
        self.candidates = _candidates(predictor, test, dangerous or labels)
        network, precision = checkpoint.load_network(model), crafting_precision()
        self._unaware = Classifier(network, precision, batch_size=BATCH_SIZE)
        screening = Screening.load(model)
        self._aware = [
            Evader(network, screening, objective, precision, batch_size=BATCH_SIZE, lead=accepted_lead(screening))
            for objective in OBJECTIVES
        ]

    @classmethod
    def load(cls, release: Path, test: Path) -> Self:
        """Return the search in the directory ``release`` and in the pictures that the manifest ``test`` lists.

        Raises:
            VerdictError: The release has no valid verdict.
            DataError: The manifest does not fit the release.
        """
        predictor = Predictor.load(release, keys.load_public_keys())
        return cls(predictor, release / MODEL_DIR, pictures.load(test, predictor.labels, predictor.form))

    def run(self) -> tuple[Found | None, Found | None]:
        """Return a candidate that PGD turns into a harmless label, and one whose harmless answer is accepted.

        The first is the one within `UNSEEN` whose two answers are both sure, before and under attack; without one,
        the same at the smallest radius that turns any. The second is the surest at the smallest radius at which one is
        accepted: PGD that knows the detector seeks an accepted answer among the candidates that PGD turns at all.
        """
        flipped: _Turned | None = None
        missed = None
        for radius in RADII:
            if turned := list(self._turned(self._unaware, UNAWARE, radius, self.candidates.pictures)):
                if flipped is None or radius <= UNSEEN:
                    flipped = max([*([flipped] if flipped else []), *turned], key=self._sureness)
                missed = missed or self._accepted(turned, radius)
            if missed and radius >= UNSEEN:
                break
        return flipped[0] if flipped else None, missed

    def _sureness(self, turned: _Turned) -> float:
        """Return the smaller of the probabilities of the right answer before and the wrong one under the attack."""
        found, wrong = turned
        right = self.predictor(found.clean)
        return min(right.probabilities[right.label], wrong.probabilities[wrong.label])

    def _accepted(self, turned: Sequence[_Turned], radius: StatedRadius) -> Found | None:
        """Return the first of ``turned`` that is accepted, as it is or attacked with knowledge of the detector."""
        some = self.candidates.pictures
        some = some.at(some.rows_of([found.name for found, _ in turned]))
        aware = (self._turned(evader, AWARE, radius, some) for evader in self._aware)
        for found, answer in (*turned, *chain.from_iterable(aware)):
            if answer.decision == "accept":
                return found
        return None

    def _turned(self, attacker: Classifier, name: str, radius: StatedRadius, some: Pictures) -> Iterator[_Turned]:
        """Yield those of ``some`` that PGD on ``attacker`` turns into a harmless label, with the answers to them."""
        # An attacker without knowledge takes all steps: a patient one wants the surest wrong answer, not the first.
        attack, within = PGD(steps=STEPS, early_exit=name == AWARE), LEVELS.radius(radius)
        sent = on_grid(attack(attacker, Batch(some.images, some.truth), within), some.images, within)
        for row, pixels in enumerate(sent):
            answer, truth = self.predictor(pixels), self.predictor.labels[some.truth[row]]
            if answer.label != truth and answer.label in self._harmless:
                yield Found(some.ids[row], truth, some.images[row], pixels, name, radius), answer


def _candidates(predictor: Predictor, test: Pictures, dangerous: Sequence[str]) -> Candidates:
    """Return the pictures with a label of ``dangerous`` that are answered right, if possible without a warning."""
    some = test.at(np.flatnonzero([predictor.labels[truth] in dangerous for truth in test.truth]))
    answers = [predictor(pixels) for pixels in some.images]
    right = [answer.label == predictor.labels[truth] for answer, truth in zip(answers, some.truth, strict=True)]
    accepted = [one and answer.decision == "accept" for one, answer in zip(right, answers, strict=True)]
    chosen, said = (accepted, "answered right and accepted") if any(accepted) else (right, "answered right")
    sureness = np.array([max(answer.probabilities.values()) for answer in answers])
    rows = np.flatnonzero(chosen)
    surest = rows[np.argsort(-sureness[rows], kind="stable")][: _most(predictor.form.shape[0])]
    tried = f"the {len(surest)} surest" if len(rows) > len(surest) else "all of them"
    about = f"of {len(some.ids)} {' or '.join(dangerous)} test pictures, {len(rows)} are {said}, and {tried} attacked"
    return Candidates(some.at(surest), about)


def _most(side: int) -> int:
    """Return how many pictures of ``side`` pixels to attack."""
    return min(TRIED, max(BATCH_SIZE // 4, TRIED * 64**2 // side**2))
