"""Runs a suite of attacks on pictures, resumably: what each attack at each radius made of the model's answers.

Adversarial pictures are rounded to 8 bits before they are scored: what is counted can be sent as a PNG.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from buckler.attacks.ball import as_8_bit
from buckler.attacks.base import Attack, Batch, Norm, Options
from buckler.attacks.table import ATTACKS
from buckler.evaluation.journal import Journal
from buckler.evaluation.roles import Judge
from buckler.modality.base import Images, Labels
from buckler.models.classifier import GradientClassifier
from buckler.models.forward import Features, Forward, Logits

Rows = npt.NDArray[np.int64]  # positions of pictures

# Columns, metrics and files bear a line's name; `worst_2` is the worst case up to 2/255.
NAME = re.compile(r"(?!worst)[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One line of a suite: an attack of the table, its radii in 1/255 of its norm, how hard it tries, and at what.

    Attributes:
        attack: Of the table.
        epsilon_255: Radii, ascending.
        steps: 0 takes the attack's own.
        name: Of the line in reports; the attack's when not given.
        only_survivors: Attack only pictures that are right when clean and that no earlier line in the same norm, nor
            this one, has flipped within the radius; the others count as flipped. One search a radius then, also
            for an attack that serves all radii with one.

            Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
            parameter-free attacks", arXiv 2003.01690: AutoAttack runs its attacks one after the other like this.
    """

    attack: str
    epsilon_255: tuple[int, ...]
    steps: int = 0
    restarts: int = 1
    early_exit: bool = True
    target: int | None = None
    queries: int = 1000
    name: str = ""
    only_survivors: bool = False

    def __post_init__(self) -> None:
        if self.attack not in ATTACKS:
            raise ValueError(f"expected an attack of {sorted(ATTACKS)}, got {self.attack!r}")
        # Frozen for everybody else: what is not said is said here, once, so that reports tell what was used.
        object.__setattr__(self, "steps", self.steps or self.entry.steps)
        object.__setattr__(self, "name", self.name or self.attack)
        if not self.epsilon_255 or min(*self.epsilon_255, self.steps, self.restarts, self.queries) < 1:
            raise ValueError(f"expected radii, steps, restarts and queries of at least 1, got {self}")
        if list(self.epsilon_255) != sorted(set(self.epsilon_255)):
            raise ValueError(f"expected ascending radii, got {self.epsilon_255}")
        if self.entry.targeted and self.target is None:
            raise ValueError(f"expected a target class for {self.attack}, got none")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"expected a name of letters, digits, '_', '.', '-', not worst..., got {self.name!r}")
        if self.entry.control and self.only_survivors:
            raise ValueError(f"{self.attack} is what attacks are compared with: it needs all pictures")

    @property
    def entry(self) -> Attack:
        """Return the attack's entry of the table."""
        return ATTACKS[self.attack]

    @property
    def stops_at_boundary(self) -> bool:
        """Return whether the attack leaves a picture alone once it is wrong; one step has nothing to leave out."""
        one_step = self.steps == 1 and self.entry.knowledge == "white_box"
        return self.early_exit and not (one_step or self.entry.control)

    def options(self, seed: int) -> Options:
        """Return what the attack is told."""
        return Options(self.steps, self.restarts, self.early_exit, seed, self.target, self.queries)


def check_names(suite: Sequence[AttackSpec]) -> None:
    """Raise ValueError unless each line of ``suite`` has a name to itself."""
    names = [spec.name for spec in suite]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"more than one line is called {twice}; tell them apart with `name: ...`")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack at one radius did: ``logits`` and ``features`` of the attacked pictures, in their order.

    Where a line attacks only survivors, the others have what the first attack to flip them got, or their clean answer
    if it was wrong.
    """

    spec: AttackSpec
    epsilon_255: int
    logits: Logits
    features: Features
    seconds: float

    @property
    def guesses(self) -> Labels:
        """Return the predicted class of each attacked picture."""
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of an evaluation: ``done`` more pictures have met a line of the suite at one of its radii.

    Attributes:
        done: Pictures since the last step.
        cell: The line and radius, as ``pgd@2``.
        robust: Pictures robust in that cell so far.
        pictures: Pictures counted in that cell so far.
    """

    done: int
    cell: str
    robust: int
    pictures: int

    def __str__(self) -> str:
        return f"{self.cell} {100 * self.robust / self.pictures:.1f} % of {self.pictures}"


Tell = Callable[[Progress], object]


def run_shown(
    crafter: GradientClassifier,
    scorer: Judge,
    images: Images,
    labels: Labels,
    suite: Sequence[AttackSpec],
    *,
    description: str,
    **tuning: Any,
) -> list[Outcome]:
    """Return what ``run_suite`` returns, behind a progress bar that ``description`` stands before."""
    total = len(labels) * sum(len(spec.epsilon_255) for spec in suite)
    with tqdm(total=total, unit="picture", desc=description) as bar:

        def tell(progress: Progress) -> None:
            bar.set_postfix_str(str(progress), refresh=False)
            bar.update(progress.done)

        return run_suite(crafter, scorer, images, labels, suite, progress=tell, **tuning)


def run_suite(
    crafter: GradientClassifier,
    scorer: Judge,
    images: Images,
    labels: Labels,
    suite: Sequence[AttackSpec],
    *,
    seed: int,
    clean: Forward | None = None,
    chunk: int = 64,
    journal: Journal | None = None,
    progress: Tell | None = None,
) -> list[Outcome]:
    """Attack ``images`` with every line of ``suite``; one outcome an attack and radius.

    Args:
        crafter: Gives gradients, in the precision that is fast here.
        scorer: Gives the answers that count, in the precision that serves.
        images: ``(n, height, width, 3)`` 8-bit pictures as float32 in 0..1.
        labels: True class indices, ``(n,)``.
        suite: What to run, in this order.
        seed: Of every random draw.
        clean: What ``scorer`` answers to ``images``; asked for when not given.
        chunk: Pictures crafted at a time; bounds the memory, and what is lost when the process is killed.
        journal: Remembers finished chunks; those of an evaluation that was killed are not crafted again.
        progress: Called after each chunk and radius.

    Raises:
        ValueError: Two lines have the same name.
    """
    check_names(suite)
    clean = scorer.forward(images) if clean is None else clean
    run = _Run(crafter, scorer, images, labels, clean, seed, chunk, journal, progress or (lambda _: None))
    outcomes: list[Outcome] = []
    for spec in suite:
        outcomes += run.survivors(spec, outcomes) if spec.only_survivors else run.everyone(spec)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the scorer made of some pictures at one radius, and how long it took to craft and ask."""

    logits: Logits
    features: Features
    seconds: float


@dataclass(frozen=True, slots=True)
class _Run:
    """Everything but the suite."""

    crafter: GradientClassifier
    scorer: Judge
    images: Images
    labels: Labels
    clean: Forward
    seed: int
    chunk: int
    journal: Journal | None
    tell: Tell

    def everyone(self, spec: AttackSpec) -> list[Outcome]:
        """Return a line's outcomes on all pictures."""
        return self._attack(spec, spec.epsilon_255, self.clean, np.arange(len(self.labels)))

    def survivors(self, spec: AttackSpec, earlier: Sequence[Outcome]) -> list[Outcome]:
        """Return a line's outcomes on what is right after the ``earlier`` ones and its own smaller radii."""
        found: list[Outcome] = []
        for epsilon in spec.epsilon_255:
            standing = self._standing([*earlier, *found], spec.entry.norm, epsilon)
            rows = np.flatnonzero(standing.logits.argmax(axis=1) == self.labels)
            fallen = len(self.labels) - len(rows)
            if fallen:
                self.tell(Progress(fallen, f"{spec.name}@{epsilon}", 0, fallen))
            found += self._attack(spec, (epsilon,), standing, rows)
        return found

    def _standing(self, outcomes: Iterable[Outcome], norm: Norm, epsilon_255: int) -> Forward:
        """Return each picture's first wrong answer, clean or attacked within a radius; the clean one if none is."""
        logits, features = self.clean.logits.copy(), self.clean.features.copy()
        for outcome in outcomes:
            if outcome.spec.entry.norm == norm and outcome.epsilon_255 <= epsilon_255:
                flipped = (logits.argmax(axis=1) == self.labels) & (outcome.guesses != self.labels)
                logits[flipped], features[flipped] = outcome.logits[flipped], outcome.features[flipped]
        return Forward(logits, features)

    def _attack(self, spec: AttackSpec, radii: Sequence[int], standing: Forward, rows: Rows) -> list[Outcome]:
        """Return the outcomes at ``radii`` of attacking the pictures at ``rows``; the others answer as ``standing``."""
        logits, features = ([part.copy() for _ in radii] for part in (standing.logits, standing.features))
        seconds, robust = [0.0] * len(radii), [0] * len(radii)
        fallen, right = len(self.labels) - len(rows), self.clean.logits.argmax(axis=1) == self.labels
        for start in range(0, len(rows), self.chunk):
            here = rows[start : start + self.chunk]
            for i, answer in enumerate(self._answers(spec, radii, here)):
                logits[i][here], features[i][here] = answer.logits, answer.features
                seconds[i] += answer.seconds
                robust[i] += int((right[here] & (answer.logits.argmax(axis=1) == self.labels[here])).sum())
                counted = fallen + start + len(here)
                self.tell(Progress(len(here), f"{spec.name}@{radii[i]}", robust[i], counted))
        return [Outcome(spec, radii[i], logits[i], features[i], seconds[i]) for i in range(len(radii))]

    def _answers(self, spec: AttackSpec, radii: Sequence[int], rows: Rows) -> Iterator[_Answer]:
        """Yield the answers at each of ``radii``: the journal's, or new ones that it is given at the end."""
        question = self._question(spec, radii, rows)
        known = self.journal.recall(question) if self.journal else None
        if known is not None:
            yield from map(_Answer, known["logits"], known["features"], known["seconds"].tolist())
            return
        answers = []
        for answer in self._craft(spec, radii, rows):
            answers.append(answer)
            yield answer
        if self.journal:
            names = ("logits", "features", "seconds")
            self.journal.record(question, {n: np.stack([getattr(answer, n) for answer in answers]) for n in names})

    def _craft(self, spec: AttackSpec, radii: Sequence[int], rows: Rows) -> Iterator[_Answer]:
        batch = Batch(self.images[rows], self.labels[rows], rows.tolist())
        options = spec.options(self.seed)
        crafted = spec.entry.craft(self.crafter, batch, [epsilon / 255 for epsilon in radii], options)
        for epsilon in radii:
            began = time.perf_counter()
            # The next set is crafted here, not earlier: seconds are this radius's own.
            adversarial = as_8_bit(next(crafted), batch.images, epsilon / 255, spec.entry.norm)
            answer = self.scorer.forward(adversarial)
            yield _Answer(answer.logits, answer.features, time.perf_counter() - began)

    def _question(self, spec: AttackSpec, radii: Sequence[int], rows: Rows) -> dict[str, Any]:
        """Return what the answers depend on, beside the model."""
        return {
            "line": {**asdict(spec), "name": None},
            "radii": list(radii),
            "seed": self.seed,
            "pictures": rows.tolist(),
            "labels": self.labels[rows].tolist(),
            "pixels": hashlib.sha256(np.ascontiguousarray(self.images[rows]).tobytes()).hexdigest(),
            "crafted_in": self.crafter.precision,
            "scored_in": self.scorer.precision,
        }
