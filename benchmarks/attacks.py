"""Measures our FGSM and PGD beside those of ART, CleverHans and Foolbox, on one network and its pictures.

Reads   pictures (``--images``, class-per-folder; else the seeded generator), weights of VGG-19's base (``--weights``;
        else seeded random ones), sections data and train of params.yaml
Writes  docs/results/attacks.json, docs/results/attacks.png

Each engine lives in a process of its own, so that peak memory is its own. They take turns, one round each, and only
one computes at a time. Each round has other pictures; a first one, of a batch, warms up and does not count. What comes
out is rounded to 8 bits and scored here, by one float32 judge. Images per second are adversarial pictures made a
second: a grid of four radii makes four of each picture.
"""

import argparse
import itertools
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from benchmarks import results as documents
from benchmarks.engines import ENGINES, Round, Task, work
from benchmarks.tables import markdown
from buckler import params
from buckler.attacks.ball import as_8_bit
from buckler.compute.machine import Precision, crafting_precision
from buckler.errors import BucklerError, DataError
from buckler.modality.base import Images, Labels, Radius
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape, flatten, join
from buckler.models.networks.vgg import VGG19
from buckler.training.loop import Schedule, train_head
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

# The workers import this module too. What only the parent needs is imported where it is used: it would count as theirs.

COMMAND = "python -m benchmarks.attacks --images DIR --weights FILE"
OURS = "buckler"
FGSM, GRID = Task("fgsm", (1,)), Task("fgsm", (1, 2, 4, 8))
PGD = Task("pgd-10", (1,), steps=10)
PGD_AS_SHIPPED = Task("pgd-10 early exit", (1,), steps=10, early_exit=True)
WARM_UP_STEPS = 3  # the fewest whose step is not longer than epsilon, which CleverHans refuses
STOP_SECONDS = 5
POINT = 0.01  # robust accuracies may differ by so much
# Images per second, ours over the fastest peer's. The first two are asked of processors with AMX.
WANTED: tuple[tuple[Task, Precision, float], ...] = (
    (FGSM, "bfloat16", 4.0),
    (GRID, "bfloat16", 12.0),
    (FGSM, "float32", 1.0),
    (GRID, "float32", 1.0),
    (PGD, "float32", 1.0),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        image_size: Pixels a side.
        weights: Of the base, as ``train.weights``.
        images: Folder of class folders; empty draws pictures.
        batch_size: For every engine.
        rounds: That count, after the one that warms up.
        fgsm: Pictures a round of FGSM at one radius, and of PGD with early exit, which pays only over several batches.
        grid: Pictures a round of FGSM at four radii.
        pgd: Pictures a round of PGD without early exit.
        head: Pictures that the head learns from.
        seed: Of the choice of pictures.
    """

    image_size: int
    weights: str = "none"
    images: str = ""
    batch_size: int = 8
    rounds: int = 4
    fgsm: int = 32
    grid: int = 16
    pgd: int = 8
    head: int = 160
    seed: int = 7

    def __post_init__(self) -> None:
        if min(self.batch_size, self.rounds, self.fgsm, self.grid, self.pgd, self.head) < 1:
            raise DataError(f"expected batch size, rounds and pictures of at least 1, got {self}")

    @property
    def tasks(self) -> tuple[tuple[Task, int], ...]:
        """Return each task with its pictures a round."""
        return ((FGSM, self.fgsm), (GRID, self.grid), (PGD, self.pgd), (PGD_AS_SHIPPED, self.fgsm))

    @property
    def test(self) -> int:
        """Return how many pictures are attacked."""
        return max(self.rounds * max(self.fgsm, self.grid, self.pgd), self.batch_size)


@dataclass(frozen=True, slots=True)
class Result:
    """One engine at one attack; ``low`` to ``high`` is the spread over rounds.

    Attributes:
        images_per_second: Adversarial pictures made a second, the median round; ``rates`` has them all.
        robust_accuracy: Share of ``images`` right clean and at every radius, after rounding to 8 bits.
        clean_accuracy: Of the same pictures.
        peak_memory_mib: Of the engine's process, network and libraries included.
    """

    engine: str
    attack: str
    epsilon_255: int | tuple[int, ...]
    dtype: str
    images_per_second: float
    low: float
    high: float
    robust_accuracy: float
    clean_accuracy: float
    peak_memory_mib: float
    rounds: int
    images: int
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What was to be reached, in words, and whether it was; ``measured`` None where this machine cannot tell."""

    name: str
    measured: str | None
    reached: bool | None


@dataclass(frozen=True, slots=True)
class Worker:
    """An engine in its process."""

    name: tuple[str, Precision]
    process: BaseProcess
    pipe: Any

    @classmethod
    def start(cls, name: tuple[str, Precision], model: Path, batch_size: int) -> "Worker":
        """Return the worker of engine ``name``, which is loading."""
        context = multiprocessing.get_context("spawn")  # fork would hand it the parent's TensorFlow and memory
        here, there = context.Pipe()
        process = context.Process(target=work, args=(name, model, batch_size, there), daemon=True)
        process.start()
        there.close()  # else its death would go unnoticed
        return cls(name, process, here)

    def ask(self, task: Task, images: Images, labels: Labels) -> Round:
        """Return what the engine makes of ``images``."""
        with suppress(ConnectionError):  # it died: answer() says so
            self.pipe.send((task, images, labels))
        done: Round = self.answer()
        return done

    def answer(self) -> Any:
        """Return what the worker sends next.

        Raises:
            BucklerError: It failed or died.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise BucklerError(
                f"the process of {' '.join(self.name)} ended with code {self.process.exitcode}; "
                "-9 is a lack of memory: choose smaller pictures (--size)"
            ) from None
        if isinstance(answer, str):
            raise BucklerError(f"{' '.join(self.name)} failed: {answer}; the peers come with `make setup`")
        return answer

    def stop(self) -> None:
        """End the process: it leaves by itself when its pipe is closed, unless it is in the middle of a round."""
        self.pipe.close()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def run(plan: Plan, out: Path) -> None:
    """Measure, write and print."""
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        network, images, labels = prepare(plan, Path(scratch))
        judge = Classifier(network, batch_size=plan.batch_size)
        clean = judge.logits(images).argmax(axis=1) == labels
        results = measure(plan, Path(scratch), judge, images, labels, clean)
    targets = compare(results)
    tables = {"speed": speed(results), "targets": _targets(targets)}
    settings = asdict(plan) | {"images": Path(plan.images).name, "weights": Path(plan.weights).name, **environment()}
    written = documents.new("attacks", COMMAND, tables, seeds=[plan.seed], settings=settings).write(out)
    _draw(results, out / "attacks.png")
    print("\n\n".join(markdown(table) for table in tables.values()))
    print(f"wrote {written} and attacks.png")


def prepare(plan: Plan, directory: Path) -> tuple[Any, Images, Labels]:
    """Save the classifier that all attack in ``directory``; return it, the pictures to attack and their labels.

    The head is trained for seconds, on other pictures: against a random one, robust accuracy would say nothing.
    """
    images, labels, names = _pictures(plan)
    cfg = params.load("train", TrainParams)
    base = VGG19.base(plan.image_size, weights=plan.weights, seed=cfg.seed)
    extractor = Classifier(flatten(base), crafting_precision(), batch_size=plan.batch_size)
    with tqdm(total=plan.head, unit="picture", desc="features for the head") as bar:
        features = extractor.forward(images[: plan.head], bar.update).logits
    head, _ = train_head(
        features[None],
        labels[: plan.head],
        (features, labels[: plan.head]),
        classes=len(names),
        head=HeadShape(cfg.hidden, cfg.dropout),
        schedule=Schedule(cfg.epochs, cfg.batch_size, cfg.learning_rate, cfg.seed),
    )
    network = join(base, head)
    checkpoint.save(network, checkpoint.ModelInfo(names, (), plan.image_size, data_version="none"), directory)
    return network, images[plan.head :], labels[plan.head :]


def measure(
    plan: Plan, model: Path, judge: Classifier, images: Images, labels: Labels, clean: np.ndarray
) -> list[Result]:
    """Let the engines take turns at every task; return one result an engine and task."""
    names = [name for name in ENGINES if name[1] in ("float32", crafting_precision())]
    turns = (plan.rounds + 1) * sum(len(_asked(task, names)) for task, _ in plan.tasks)
    with ExitStack() as stack, tqdm(total=turns, unit="round", desc="load the engines") as bar:
        workers = [Worker.start(name, model, plan.batch_size) for name in names]
        for worker in workers:
            stack.callback(worker.stop)
        for worker in workers:
            worker.answer()
        results = []
        for task, count in plan.tasks:
            asked = [worker for worker in workers if worker.name in _asked(task, names)]
            done: dict[tuple[str, Precision], list[tuple[Round, np.ndarray]]] = {w.name: [] for w in asked}
            for turn, worker in itertools.product(range(plan.rounds + 1), asked):
                bar.set_description(f"{task.name} {_radii(task)}: {' '.join(worker.name)}")
                if turn == 0:
                    warm = replace(task, steps=min(task.steps, WARM_UP_STEPS))
                    worker.ask(warm, images[: plan.batch_size], labels[: plan.batch_size])
                else:
                    here = slice((turn - 1) * count, turn * count)
                    made = worker.ask(task, images[here], labels[here])
                    held = clean[here] & _held(judge, task, made, images[here], labels[here])
                    done[worker.name].append((made, held))
                bar.update()
            share = float(clean[: plan.rounds * count].mean())
            results += [_result(task, name, rounds, share) for name, rounds in done.items()]
    return results


def compare(results: Sequence[Result]) -> list[Target]:
    """Return what was to be reached and whether it was."""
    targets = []
    for task, dtype, wanted in WANTED:
        name = f"{task.name} {_radii(task)} in {dtype}: at least {wanted:g} times the fastest peer"
        ours = [r for r in results if _is(r, task) and (r.engine, r.dtype) == (OURS, dtype)]
        if not ours:
            targets.append(Target(name, None, None))
            continue
        ratios = _ratios(ours[0], results)
        middle = statistics.median(ratios)
        measured = f"{middle:.2f} times ({min(ratios):.2f} to {max(ratios):.2f}) {_fastest(ours[0], results).engine}"
        targets.append(Target(name, measured, round(middle, 2) >= wanted))
    for task, ours in itertools.product((FGSM, GRID, PGD), results):
        if ours.engine != OURS or not _is(ours, task):
            continue
        peers = [r for r in results if r.engine != OURS and _is(r, task)]
        apart = max(abs(ours.robust_accuracy - peer.robust_accuracy) for peer in peers)
        name = f"{task.name} {_radii(task)} in {ours.dtype}: robust accuracy within 1 point of every peer's"
        measured = f"{100 * apart:.1f} points, {round(apart * ours.images)} of {ours.images} pictures"
        targets.append(Target(name, measured, round(apart, 6) <= POINT))
    return targets


def environment() -> dict[str, Any]:
    """Return the machine's memory and the versions of the libraries."""
    peers = ("adversarial-robustness-toolbox", "cleverhans", "foolbox")
    return {
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            **{name: version(name) for name in ("keras", "numpy", *peers)},
        },
    }


def _pictures(plan: Plan) -> tuple[Images, Labels, tuple[str, ...]]:
    """Return shuffled pictures, as many as the plan needs, their labels and the names of these."""
    from buckler.data import sources
    from buckler.modality.picture.images import load_pixels

    needed = plan.head + plan.test
    if plan.images:
        items = sources.directory(Path(plan.images), per_class=0, seed=plan.seed)
    else:
        items = sources.generated(per_class=-(-needed // 2), seed=plan.seed, size=plan.image_size)
    if len(items) < needed:
        raise DataError(
            f"expected at least {needed} pictures in {plan.images}, got {len(items)}; ask for fewer (--fgsm, --rounds)"
        )
    names = tuple(sorted({item.label for item in items}))
    order = np.random.default_rng(plan.seed).permutation(len(items))[:needed]
    chosen = [items[place] for place in order]
    decoded = [
        load_pixels(item.read(), size=plan.image_size) for item in tqdm(chosen, unit="picture", desc="read pictures")
    ]
    return np.stack(decoded), np.array([names.index(item.label) for item in chosen], np.int64), names


def _held(judge: Classifier, task: Task, made: Round, images: Images, labels: Labels) -> np.ndarray:
    """Return which pictures the judge has right at every radius."""
    right = np.ones(len(labels), bool)
    for epsilon, adversarial in zip(task.epsilons, made.adversarial, strict=True):
        right &= judge.logits(as_8_bit(adversarial, images, Radius(epsilon))).argmax(axis=1) == labels
    return right


def _result(
    task: Task, name: tuple[str, Precision], rounds: Sequence[tuple[Round, np.ndarray]], clean: float
) -> Result:
    rates = tuple(len(held) * len(task.epsilons_255) / made.seconds for made, held in rounds)
    held = np.concatenate([held for _, held in rounds])
    return Result(
        engine=name[0],
        attack=task.name,
        epsilon_255=task.epsilons_255 if len(task.epsilons_255) > 1 else task.epsilons_255[0],
        dtype=name[1],
        images_per_second=statistics.median(rates),
        low=min(rates),
        high=max(rates),
        robust_accuracy=float(held.mean()),
        clean_accuracy=clean,
        peak_memory_mib=round(max(made.peak_mib for made, _ in rounds), 1),
        rounds=len(rounds),
        images=len(held),
        rates=rates,
    )


def _asked(task: Task, names: Sequence[tuple[str, Precision]]) -> list[tuple[str, Precision]]:
    # The peers go on with a picture that is wrong already: with early exit there is nothing of theirs to measure.
    return [name for name in names if name[0] == OURS or not task.early_exit]


def _radii(task: Task) -> str:
    return f"{', '.join(map(str, task.epsilons_255))}/255"


def _is(result: Result, task: Task) -> bool:
    return result.attack == task.name and np.array_equal(np.atleast_1d(result.epsilon_255), task.epsilons_255)


def _fastest(ours: Result, results: Sequence[Result]) -> Result:
    """Return the fastest peer at the attack and radii of ``ours``; early exit is held to PGD without it."""
    attack = PGD.name if ours.attack == PGD_AS_SHIPPED.name else ours.attack
    peers = (r for r in results if r.engine != OURS and (r.attack, r.epsilon_255) == (attack, ours.epsilon_255))
    return max(peers, key=lambda result: result.images_per_second)


def _ratios(ours: Result, results: Sequence[Result]) -> list[float]:
    """Return ours over the fastest peer, round by round: what slows the machine for a while slows both."""
    return [a / b for a, b in zip(ours.rates, _fastest(ours, results).rates, strict=True)]


def _draw(results: Sequence[Result], path: Path) -> None:
    from buckler.reporting import plots

    panels: dict[str, dict[str, tuple[float, float, float]]] = {}
    for task in (FGSM, GRID, PGD):
        shown = [r for r in results if _is(r, task) or (task is PGD and _is(r, PGD_AS_SHIPPED))]
        panels[f"{task.name} {_radii(task)}"] = {
            f"{r.engine} {r.dtype}{r.attack.removeprefix(task.name)}": (r.images_per_second, r.low, r.high)
            for r in shown
        }
    plots.bars(panels, "images per second (median, spread over rounds)", path)


def speed(results: Sequence[Result]) -> documents.Table:
    """Return a row for each engine and attack."""
    column, figure = documents.Column, documents.Figure
    return documents.Table(
        (
            column("attack", "attack"),
            column("radii", "radii"),
            column("engine", "engine"),
            column("images_per_second", "images/s", ".2f", "slowest to fastest round"),
            column("over_fastest_peer", "times the fastest peer", ".2f", "smallest to largest ratio of a round"),
            column("robust_accuracy", "robust accuracy", ".1%"),
            column("clean_accuracy", "clean accuracy", ".1%"),
            column("images", "images"),
            column("peak_memory_mib", "peak MiB", ".0f"),
        ),
        tuple(
            {
                "attack": r.attack,
                "radii": f"{', '.join(map(str, np.atleast_1d(r.epsilon_255)))}/255",
                "engine": f"{r.engine} {r.dtype}",
                "images_per_second": figure(r.images_per_second, r.low, r.high),
                "over_fastest_peer": _spread(_ratios(r, results)) if r.engine == OURS else None,
                "robust_accuracy": r.robust_accuracy,
                "clean_accuracy": r.clean_accuracy,
                "images": r.images,
                "peak_memory_mib": r.peak_memory_mib,
            }
            for r in results
        ),
    )


def _spread(numbers: Sequence[float]) -> documents.Figure:
    return documents.Figure(statistics.median(numbers), min(numbers), max(numbers))


def _targets(targets: Sequence[Target]) -> documents.Table:
    titles = {"name": "target (bfloat16: on a processor with AMX)", "measured": "measured", "reached": "reached"}
    columns = tuple(documents.Column(key, title) for key, title in titles.items())
    return documents.Table(columns, tuple(asdict(target) for target in targets))


def _plan(arguments: Sequence[str] | None = None) -> tuple[Plan, Path]:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="", help="folder of class folders; else the seeded generator draws")
    parser.add_argument("--weights", default="", help="VGG-19 base: imagenet, or a file; else seeded random weights")
    parser.add_argument("--size", type=int, help="pixels a side; 224 with --weights, else data.image_size")
    for name, what in (
        ("rounds", "rounds that count"),
        ("fgsm", "pictures a round of FGSM at one radius"),
        ("grid", "pictures a round of FGSM at four radii"),
        ("pgd", "pictures a round of PGD-10"),
    ):
        parser.add_argument(f"--{name}", type=int, default=Plan.__dataclass_fields__[name].default, help=what)
    documents.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="32 pixels, few pictures: shows that it works, no more")
    given = parser.parse_args(arguments)
    if given.quick:
        return Plan(32, rounds=1, fgsm=16, grid=8, pgd=8, head=400), given.out or documents.SCRATCH
    size = given.size or (224 if given.weights else params.load("data", DataParams).image_size)
    counts = {name: getattr(given, name) for name in ("rounds", "fgsm", "grid", "pgd")}
    return Plan(size, given.weights or "none", given.images, **counts), given.out or documents.DIRECTORY


def main() -> None:
    """Parse the command line; Ctrl-C ends with one line."""
    try:
        run(*_plan())
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written; run `make bench` again", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    stage(main)
