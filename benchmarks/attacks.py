"""Compares Buckler's FGSM and PGD with those of ART, CleverHans and Foolbox on one network and the same pictures.

Reads   pictures (``--images``, class-per-folder; else the seeded generator), weights of VGG-19's base (``--weights``;
        else seeded random ones), sections data and train of params.yaml
Writes  docs/results/attacks.json, docs/results/attacks.png

Each engine runs in a separate process, so that its peak memory can be measured. The engines take turns, one round
each, and one computes at a time. Each round uses new pictures; a first round of one batch warms up and is not counted.
The adversarial pictures are rounded to 8 bits and scored in this process by one float32 network. Images per second
counts adversarial pictures: four radii make four of each picture.
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
from tqdm import tqdm

from benchmarks import results as documents
from benchmarks.attack_results import (
    FGSM,
    GRID,
    OURS,
    PGD,
    PGD_AS_SHIPPED,
    EngineResult,
    compare,
    draw,
    radii,
    speed,
    targets_table,
)
from benchmarks.engines import ENGINES, AttackTask, Round, work
from benchmarks.tables import markdown
from buckler import params
from buckler.attacks.ball import on_grid
from buckler.compute.machine import Precision, crafting_precision
from buckler.errors import BucklerError, DataError
from buckler.modality.base import Images, Labels, Radius
from buckler.modality.table import find as modality_called
from buckler.models import checkpoint
from buckler.models.backend import tf
from buckler.models.classifier import Classifier
from buckler.models.networks import table as networks
from buckler.models.networks.base import HeadShape, flatten, join
from buckler.training.loop import Schedule, train_head
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

# The workers import this module too. Imports that only the parent needs are inside functions: they would count as
# memory of the engines.

COMMAND = "python -m benchmarks.attacks --images DIR --weights FILE"
WARM_UP_STEPS = 3  # with fewer, a step is longer than epsilon, which CleverHans rejects
STOP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """Settings of one measurement.

    Attributes:
        image_size: Pixels a side.
        network: A name of ``train.network``.
        weights: Weights of the base, as ``train.weights``.
        images: Class-per-folder directory; empty for drawn pictures.
        batch_size: Batch size of every engine.
        rounds: Counted rounds, after the one that warms up.
        fgsm: Pictures in a round of FGSM at one radius, and of PGD with early exit, which saves time over many batches.
        grid: Pictures in a round of FGSM at four radii.
        pgd: Pictures in a round of PGD without early exit.
        head: Training pictures of the head.
        seed: Seed of the choice of pictures.
    """

    image_size: int
    network: str = "vgg19"
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
    def tasks(self) -> tuple[tuple[AttackTask, int], ...]:
        """Return each task and the number of pictures in its rounds."""
        return ((FGSM, self.fgsm), (GRID, self.grid), (PGD, self.pgd), (PGD_AS_SHIPPED, self.fgsm))

    @property
    def test(self) -> int:
        """Return the number of attacked pictures."""
        return max(self.rounds * max(self.fgsm, self.grid, self.pgd), self.batch_size)


@dataclass(frozen=True, slots=True)
class Worker:
    """An engine and its process."""

    name: tuple[str, Precision]
    process: BaseProcess
    pipe: Any

    @classmethod
    def start(cls, name: tuple[str, Precision], model: Path, batch_size: int) -> "Worker":
        """Start the process of engine ``name``, which sends a first answer when it has loaded the network."""
        # Forked from a server that has imported the engines' common modules, not from this process and its memory.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.engines"])
        here, there = context.Pipe()
        process = context.Process(target=work, args=(name, model, batch_size, there), daemon=True)
        process.start()
        there.close()  # otherwise the end of the process would not close the pipe
        return cls(name, process, here)

    def ask(self, task: AttackTask, images: Images, labels: Labels) -> Round:
        """Let the engine attack ``images`` and return the round."""
        with suppress(ConnectionError):  # the process ended: answer() raises
            self.pipe.send((task, images, labels))
        done: Round = self.answer()
        return done

    def answer(self) -> Any:
        """Return the next answer of the worker.

        Raises:
            BucklerError: The engine failed or its process ended.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise BucklerError(
                f"the process of {' '.join(self.name)} ended with code {self.process.exitcode}; "
                "-9 means out of memory: choose smaller pictures (--size)"
            ) from None
        if isinstance(answer, str):
            raise BucklerError(f"{' '.join(self.name)} failed: {answer}; `make setup` installs the peers")
        return answer

    def stop(self) -> None:
        """End the process: it ends when its pipe is closed, and is terminated if it is in the middle of a round."""
        self.pipe.close()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


def run(plan: AttackPlan, out: Path) -> None:
    """Measure, write the results and print the tables."""
    with tempfile.TemporaryDirectory(prefix="buckler-bench-") as scratch:
        network, images, labels = prepare(plan, Path(scratch))
        judge = Classifier(network, batch_size=plan.batch_size)
        clean = judge.logits(images).argmax(axis=1) == labels
        results = measure(plan, Path(scratch), judge, images, labels, clean)
    targets = compare(results)
    tables = {"speed": speed(results), "targets": targets_table(targets)}
    settings = asdict(plan) | {"images": Path(plan.images).name, "weights": Path(plan.weights).name, **environment()}
    written = documents.new("attacks", COMMAND, tables, seeds=[plan.seed], settings=settings).write(out)
    draw(results, out / "attacks.png")
    print("\n\n".join(markdown(table) for table in tables.values()))
    print(f"wrote {written} and attacks.png")


def prepare(plan: AttackPlan, directory: Path) -> tuple[Any, Images, Labels]:
    """Save the attacked classifier in ``directory``; return it, the pictures to attack and their labels.

    The head is trained for seconds on other pictures; the robust accuracy of a random head would have no meaning.
    """
    from benchmarks import pictures

    count = plan.head + plan.test
    images, labels, names = pictures.sample(plan.images, count, size=plan.image_size, seed=plan.seed)
    cfg = params.load("train", TrainParams)
    base = networks.find(plan.network).base(
        modality_called("picture").shape(plan.image_size), weights=plan.weights, seed=cfg.seed
    )
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
    info = checkpoint.ModelInfo(
        names, (), modality_called("picture").shape(plan.image_size), data_version="none", architecture=plan.network
    )
    checkpoint.save(network, info, directory)
    return network, images[plan.head :], labels[plan.head :]


def measure(
    plan: AttackPlan, model: Path, judge: Classifier, images: Images, labels: Labels, clean: np.ndarray
) -> list[EngineResult]:
    """Let the engines take turns at every task; return one result for each engine and task."""
    names = [name for name in ENGINES if name[1] in ("float32", crafting_precision())]
    turns = (plan.rounds + 1) * sum(len(_engines(task, names)) for task, _ in plan.tasks)
    with ExitStack() as stack, tqdm(total=turns, unit="round", desc="load the engines") as bar:
        workers = [Worker.start(name, model, plan.batch_size) for name in names]
        for worker in workers:
            stack.callback(worker.stop)
        for worker in workers:
            worker.answer()
        results = []
        for task, count in plan.tasks:
            asked = [worker for worker in workers if worker.name in _engines(task, names)]
            done: dict[tuple[str, Precision], list[tuple[Round, np.ndarray]]] = {w.name: [] for w in asked}
            for turn, worker in itertools.product(range(plan.rounds + 1), asked):
                bar.set_description(f"{task.name} {radii(task)}: {' '.join(worker.name)}")
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


def _held(judge: Classifier, task: AttackTask, made: Round, images: Images, labels: Labels) -> np.ndarray:
    """Return which pictures the judge classifies correctly at every radius."""
    right = np.ones(len(labels), bool)
    for epsilon, adversarial in zip(task.epsilons, made.adversarial, strict=True):
        right &= judge.logits(on_grid(adversarial, images, Radius(epsilon))).argmax(axis=1) == labels
    return right


def _result(
    task: AttackTask, name: tuple[str, Precision], rounds: Sequence[tuple[Round, np.ndarray]], clean: float
) -> EngineResult:
    rates = tuple(len(held) * len(task.epsilons_255) / made.seconds for made, held in rounds)
    held = np.concatenate([held for _, held in rounds])
    return EngineResult(
        engine=name[0],
        attack=task.name,
        epsilons_255=task.epsilons_255 if len(task.epsilons_255) > 1 else task.epsilons_255[0],
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


def _engines(task: AttackTask, names: Sequence[tuple[str, Precision]]) -> list[tuple[str, Precision]]:
    # The peers have no early exit.
    return [name for name in names if name[0] == OURS or not task.early_exit]


def _plan(arguments: Sequence[str] | None = None) -> tuple[AttackPlan, Path]:
    """Return the plan and the folder of the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="", help="class-per-folder directory; default: drawn pictures")
    parser.add_argument("--weights", default="", help="VGG-19 base: imagenet or a file; default: seeded random weights")
    parser.add_argument("--size", type=int, help="pixels a side; 224 with --weights, else data.image_size")
    for name, what in (
        ("rounds", "counted rounds"),
        ("fgsm", "pictures in a round of FGSM at one radius"),
        ("grid", "pictures in a round of FGSM at four radii"),
        ("pgd", "pictures in a round of PGD-10"),
    ):
        parser.add_argument(f"--{name}", type=int, default=AttackPlan.__dataclass_fields__[name].default, help=what)
    documents.add_options(parser)
    parser.add_argument("--quick", action="store_true", help="tiny network, few pictures: shows that it works")
    given = parser.parse_args(arguments)
    if given.quick:
        return AttackPlan(32, "tiny", rounds=1, fgsm=16, grid=8, pgd=8, head=400), given.out or documents.SCRATCH
    size = given.size or (224 if given.weights else params.load("data", DataParams).image_size)
    counts = {name: getattr(given, name) for name in ("rounds", "fgsm", "grid", "pgd")}
    plan = AttackPlan(size, weights=given.weights or "none", images=given.images, **counts)
    return plan, given.out or documents.DIRECTORY


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; an interrupt prints one line."""
    try:
        run(*_plan(arguments))
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written; run `make bench` again", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    stage(main)
