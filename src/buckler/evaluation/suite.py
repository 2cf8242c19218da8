"""Runs a suite of attacks on pictures and returns the model's answers for each attack and radius; resumable.

Adversarial inputs are rounded to the grid of their modality before they are scored, so that each could be sent as a
file: pictures to 8 bits, as in a PNG.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, model_validator
from tqdm import tqdm

from buckler.attacks.ball import on_grid
from buckler.attacks.base import Batch, Norm
from buckler.attacks.table import AnyAttack, build
from buckler.evaluation.crafter_and_scorer import Scorer
from buckler.evaluation.journal import Journal
from buckler.modality.base import LEVELS, Images, Labels, RadiusUnit
from buckler.models.forward import Features, Forward, Logits
from buckler.models.gradients import GradientClassifier
from buckler.radius import StatedRadius, check_ascending

Rows = npt.NDArray[np.int64]  # positions of pictures

# A line's name appears in columns, metrics and files; `worst_2/255` is the worst case up to 2/255.
NAME = re.compile(r"(?!worst)[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class AttackSpec:
    """One line of a suite: an attack and its radii.

    ``params.yaml`` writes it as a mapping: ``attack`` is a name of the table, keys that are not attributes are
    settings of the attack, such as ``{attack: pgd, radii: [1/255, 2/255], steps: 20}``.

    Attributes:
        attack: With its settings.
        radii: In the attack's norm, ascending.
        name: Of the line in reports; the attack's when not given.
        only_survivors: Attack only pictures that are right when clean and that no earlier line in the same norm, nor
            a smaller radius of this one, has flipped; the others count as flipped. This takes a search for each
            radius, even if the attack could serve all radii with one.

            Source: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
            parameter-free attacks", arXiv 2003.01690: AutoAttack runs its attacks one after the other like this.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    attack: AnyAttack
    radii: tuple[StatedRadius, ...]
    name: str = ""
    only_survivors: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.attack.name)
        object.__setattr__(self, "radii", tuple(map(StatedRadius, self.radii)))
        check_ascending(self.radii)
        if not NAME.fullmatch(self.name):
            raise ValueError(f"expected a name of letters, digits, '_', '.', '-', not worst..., got {self.name!r}")
        if self.attack.control and self.only_survivors:
            raise ValueError(f"{self.attack.name} is the control and must run on all pictures, not only on survivors")

    def without_early_exit(self) -> "AttackSpec":
        """Return the line with an attack without early exit, if it has that setting."""
        return replace(self, attack=self.attack.adjusted(early_exit=False))

    @model_validator(mode="before")
    @classmethod
    def _read(cls, line: Any) -> Any:
        """Build the attack of a line of ``params.yaml``."""
        if not isinstance(line, Mapping) or "attack" not in line:
            return line
        own = {field.name for field in fields(cls)}
        settings = {key: value for key, value in line.items() if key not in own}
        return {key: line[key] for key in own & set(line)} | {"attack": build(line["attack"], **settings)}


def check_names(suite: Sequence[AttackSpec]) -> None:
    """Raise ValueError unless the names of the lines of ``suite`` differ."""
    names = [spec.name for spec in suite]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"more than one line is called {twice}; give each its own `name: ...`")


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """Result of one attack at one radius: ``logits`` and ``features`` of the attacked pictures, in their order.

    If a line attacks only survivors, the other pictures keep the answer to the first attack that flipped them, or
    their clean answer if it was wrong.
    """

    spec: AttackSpec
    radius: StatedRadius
    logits: Logits
    features: Features
    seconds: float

    @property
    def guesses(self) -> Labels:
        """Return the predicted class of each attacked picture."""
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of an evaluation: ``done`` more pictures were attacked by a line of the suite at one of its radii.

    Attributes:
        done: Pictures since the last step.
        cell: The line and radius, as ``pgd@2/255``.
        robust: Pictures robust in that cell so far.
        pictures: Pictures counted in that cell so far.
    """

    done: int
    cell: str
    robust: int
    pictures: int

    def __str__(self) -> str:
        return f"{self.cell} {100 * self.robust / self.pictures:.1f} % of {self.pictures}"


OnProgress = Callable[[Progress], object]


def run_shown(
    crafter: GradientClassifier,
    scorer: Scorer,
    images: Images,
    labels: Labels,
    suite: Sequence[AttackSpec],
    *,
    description: str,
    **tuning: Any,
) -> list[AttackOutcome]:
    """Return the outcomes of ``run_suite``, with a progress bar labelled ``description``."""
    total = len(labels) * sum(len(spec.radii) for spec in suite)
    with tqdm(total=total, unit="picture", desc=description) as bar:

        def show(progress: Progress) -> None:
            bar.set_postfix_str(str(progress), refresh=False)
            bar.update(progress.done)

        return run_suite(crafter, scorer, images, labels, suite, progress=show, **tuning)


def run_suite(
    crafter: GradientClassifier,
    scorer: Scorer,
    images: Images,
    labels: Labels,
    suite: Sequence[AttackSpec],
    *,
    seed: int,
    clean: Forward | None = None,
    chunk: int = 64,
    unit: RadiusUnit = LEVELS,
    journal: Journal | None = None,
    progress: OnProgress | None = None,
) -> list[AttackOutcome]:
    """Attack ``images`` with every line of ``suite``; one outcome an attack and radius.

    Args:
        crafter: Computes gradients, in the precision that is fast on this machine.
        scorer: Gives the answers that count, in the precision that serves.
        images: ``(n, ...)`` float32 in 0..1, on the grid of ``unit``.
        labels: True class indices, ``(n,)``.
        suite: Lines to run, in this order.
        seed: Of every random draw.
        clean: The answers of ``scorer`` to ``images``; computed when not given.
        chunk: Pictures attacked at a time; limits the memory, and the work lost when the process is killed.
        unit: Of the radii, and the grid to which attacked inputs are rounded.
        journal: Stores finished chunks, so that an interrupted evaluation resumes.
        progress: Called after each chunk and radius.

    Raises:
        ValueError: Two lines have the same name.
    """
    check_names(suite)
    clean = scorer.forward(images) if clean is None else clean
    run = _Run(crafter, scorer, images, labels, clean, seed, chunk, unit, journal, progress or (lambda _: None))
    outcomes: list[AttackOutcome] = []
    for spec in suite:
        outcomes += run.survivors(spec, outcomes) if spec.only_survivors else run.everyone(spec)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Answer:
    """The scorer's answers to some pictures at one radius, and the seconds to craft and score them."""

    logits: Logits
    features: Features
    seconds: float


@dataclass(frozen=True, slots=True)
class _Run:
    """Arguments of `run_suite` except the suite."""

    crafter: GradientClassifier
    scorer: Scorer
    images: Images
    labels: Labels
    clean: Forward
    seed: int
    chunk: int
    unit: RadiusUnit
    journal: Journal | None
    on_progress: OnProgress

    def everyone(self, spec: AttackSpec) -> list[AttackOutcome]:
        """Return a line's outcomes on all pictures."""
        return self._attack(spec, spec.radii, self.clean, np.arange(len(self.labels)))

    def survivors(self, spec: AttackSpec, earlier: Sequence[AttackOutcome]) -> list[AttackOutcome]:
        """Return a line's outcomes on pictures still right after the ``earlier`` ones and its own smaller radii."""
        found: list[AttackOutcome] = []
        for radius in spec.radii:
            current = self._worst_answers([*earlier, *found], spec.attack.norm, radius)
            rows = np.flatnonzero(current.logits.argmax(axis=1) == self.labels)
            skipped = len(self.labels) - len(rows)
            if skipped:
                self.on_progress(Progress(skipped, f"{spec.name}@{radius}", 0, skipped))
            found += self._attack(spec, (radius,), current, rows)
        return found

    def _worst_answers(self, outcomes: Iterable[AttackOutcome], norm: Norm, radius: StatedRadius) -> Forward:
        """Return each picture's first wrong answer, clean or attacked within a radius; the clean one if none is."""
        logits, features = self.clean.logits.copy(), self.clean.features.copy()
        for outcome in outcomes:
            if outcome.spec.attack.norm == norm and outcome.radius <= radius:
                flipped = (logits.argmax(axis=1) == self.labels) & (outcome.guesses != self.labels)
                logits[flipped], features[flipped] = outcome.logits[flipped], outcome.features[flipped]
        return Forward(logits, features)

    def _attack(
        self, spec: AttackSpec, radii: Sequence[StatedRadius], current: Forward, rows: Rows
    ) -> list[AttackOutcome]:
        """Return the outcomes at ``radii`` of attacking the pictures at ``rows``; the others stay ``current``."""
        logits, features = ([part.copy() for _ in radii] for part in (current.logits, current.features))
        seconds, robust = [0.0] * len(radii), [0] * len(radii)
        skipped, right = len(self.labels) - len(rows), self.clean.logits.argmax(axis=1) == self.labels
        for start in range(0, len(rows), self.chunk):
            here = rows[start : start + self.chunk]
            for i, answer in enumerate(self._answers(spec, radii, here)):
                logits[i][here], features[i][here] = answer.logits, answer.features
                seconds[i] += answer.seconds
                robust[i] += int((right[here] & (answer.logits.argmax(axis=1) == self.labels[here])).sum())
                counted = skipped + start + len(here)
                self.on_progress(Progress(len(here), f"{spec.name}@{radii[i]}", robust[i], counted))
        return [AttackOutcome(spec, radii[i], logits[i], features[i], seconds[i]) for i in range(len(radii))]

    def _answers(self, spec: AttackSpec, radii: Sequence[StatedRadius], rows: Rows) -> Iterator[_Answer]:
        """Yield the answers at each of ``radii``: from the journal, or new ones, which are then stored in it."""
        key = self._journal_key(spec, radii, rows)
        known = self.journal.load(key) if self.journal else None
        if known is not None:
            yield from map(_Answer, known["logits"], known["features"], known["seconds"].tolist())
            return
        answers = []
        for answer in self._craft(spec, radii, rows):
            answers.append(answer)
            yield answer
        if self.journal:
            names = ("logits", "features", "seconds")
            self.journal.store(key, {n: np.stack([getattr(answer, n) for answer in answers]) for n in names})

    def _craft(self, spec: AttackSpec, radii: Sequence[StatedRadius], rows: Rows) -> Iterator[_Answer]:
        batch = Batch(self.images[rows], self.labels[rows], rows.tolist(), self.seed)
        distances = [self.unit.radius(radius) for radius in radii]
        crafted = spec.attack.each(self.crafter, batch, distances)
        for radius in distances:
            began = time.perf_counter()
            # The generator attacks at this call, so the seconds are those of this radius.
            adversarial = on_grid(next(crafted), batch.images, radius, spec.attack.norm)
            answer = self.scorer.forward(adversarial)
            yield _Answer(answer.logits, answer.features, time.perf_counter() - began)

    def _journal_key(self, spec: AttackSpec, radii: Sequence[StatedRadius], rows: Rows) -> dict[str, Any]:
        """Return everything that the answers depend on except the model."""
        return {
            "attack": spec.attack.name,
            "settings": spec.attack.settings,
            "only_survivors": spec.only_survivors,
            "radii": [str(radius) for radius in radii],
            "seed": self.seed,
            "pictures": rows.tolist(),
            "labels": self.labels[rows].tolist(),
            "pixels": hashlib.sha256(np.ascontiguousarray(self.images[rows]).tobytes()).hexdigest(),
            "unit": [self.unit.scale, self.unit.levels],
            "crafted_in": self.crafter.precision,
            "scored_in": self.scorer.precision,
        }
