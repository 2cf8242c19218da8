"""The attack engines that the benchmark ``attacks`` compares, each used as its documentation shows.

All attack the same Keras network. ART and Foolbox differentiate it eagerly; CleverHans compiles the gradient. ART and
Foolbox also count the flipped pictures, which costs them forward passes.
"""

import resource
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from buckler.attacks.base import Batch
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.attacks.table import AnyAttack
from buckler.compute.machine import Precision
from buckler.modality.base import Images, Labels, Radius
from buckler.models import checkpoint
from buckler.models.backend import keras, tf
from buckler.models.classifier import Classifier


@dataclass(frozen=True, slots=True)
class AttackTask:
    """An attack on a round of pictures: FGSM, or PGD from a random start if ``steps`` is not 0."""

    name: str
    epsilons_255: tuple[int, ...]
    steps: int = 0
    early_exit: bool = False

    @property
    def epsilons(self) -> list[float]:
        """Return the radii in the unit of the pixels."""
        return [radius / 255 for radius in self.epsilons_255]

    @property
    def step_size(self) -> float:
        """Return the step size of all engines, which is PGD's default."""
        return 2.5 * self.epsilons[0] / self.steps


@dataclass(frozen=True, slots=True)
class Round:
    """Result of a task: adversarial pictures for each radius, time, and peak memory of the process."""

    adversarial: list[Images]
    seconds: float
    peak_mib: float


class Engine(Protocol):
    """An implementation of the attacks."""

    def craft(self, task: AttackTask, images: Images, labels: Labels) -> list[Images]:
        """Return adversarial pictures, one array for each radius of ``task``."""
        ...


class Buckler:
    """This project's attacks."""

    def __init__(self, network: keras.Model, batch_size: int, precision: Precision) -> None:
        self._classifier = Classifier(network, precision, batch_size=batch_size)

    def craft(self, task: AttackTask, images: Images, labels: Labels) -> list[Images]:
        """Return adversarial pictures, one array for each radius of ``task``."""
        if not task.steps:
            attack: AnyAttack = FGSM()
        else:
            attack = PGD(steps=task.steps, step_size=task.step_size, early_exit=task.early_exit)
        return list(attack.each(self._classifier, Batch(images, labels), [Radius(e) for e in task.epsilons]))


class Art:
    """The Adversarial Robustness Toolbox, which makes its own batches."""

    def __init__(self, network: keras.Model, batch_size: int) -> None:
        from art.estimators.classification import TensorFlowV2Classifier

        self._batch_size, self._classes = batch_size, int(network.output_shape[-1])
        self._estimator = TensorFlowV2Classifier(
            network,
            nb_classes=self._classes,
            input_shape=network.input_shape[1:],
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
            clip_values=(0.0, 1.0),
        )

    def craft(self, task: AttackTask, images: Images, labels: Labels) -> list[Images]:
        """Return adversarial pictures, one array for each radius of ``task``."""
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent

        def attack(epsilon: float) -> Any:
            if not task.steps:
                return FastGradientMethod(self._estimator, np.inf, epsilon, batch_size=self._batch_size)
            tuning = {"max_iter": task.steps, "num_random_init": 1, "batch_size": self._batch_size, "verbose": False}
            return ProjectedGradientDescent(self._estimator, np.inf, epsilon, task.step_size, **tuning)

        targets = np.eye(self._classes, dtype=np.float32)[labels]
        return [attack(epsilon).generate(images, targets) for epsilon in task.epsilons]


class CleverHans:
    """CleverHans, whose caller makes the batches."""

    def __init__(self, network: keras.Model, batch_size: int) -> None:
        self._network, self._batch_size = network, batch_size

    def craft(self, task: AttackTask, images: Images, labels: Labels) -> list[Images]:
        """Return adversarial pictures, one array for each radius of ``task``."""
        from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
        from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

        def attack(epsilon: float, pixels: Any, truth: Any) -> Any:
            tuning = {"clip_min": 0.0, "clip_max": 1.0, "y": truth}
            if not task.steps:
                return fast_gradient_method(self._network, pixels, epsilon, np.inf, **tuning).numpy()
            tuning |= {"rand_init": True}
            walk = (epsilon, task.step_size, task.steps, np.inf)
            return projected_gradient_descent(self._network, pixels, *walk, **tuning).numpy()

        return [_in_batches(attack, epsilon, images, labels, self._batch_size) for epsilon in task.epsilons]


class Foolbox:
    """Foolbox, whose caller makes the batches."""

    def __init__(self, network: keras.Model, batch_size: int) -> None:
        import foolbox

        self._model, self._batch_size = foolbox.TensorFlowModel(network, bounds=(0, 1)), batch_size

    def craft(self, task: AttackTask, images: Images, labels: Labels) -> list[Images]:
        """Return adversarial pictures, one array for each radius of ``task``."""
        from foolbox.attacks import LinfFastGradientAttack, LinfProjectedGradientDescentAttack

        chosen: Any = LinfFastGradientAttack(random_start=False)
        if task.steps:
            chosen = LinfProjectedGradientDescentAttack(abs_stepsize=task.step_size, steps=task.steps)

        def attack(epsilon: float, pixels: Any, truth: Any) -> Any:
            return chosen(self._model, pixels, truth, epsilons=epsilon)[1].numpy()

        return [_in_batches(attack, epsilon, images, labels, self._batch_size) for epsilon in task.epsilons]


def _in_batches(
    attack: Callable[[float, Any, Any], Images], epsilon: float, images: Images, labels: Labels, size: int
) -> Images:
    starts = range(0, len(images), size)
    pairs = ((tf.constant(images[at : at + size]), tf.constant(labels[at : at + size])) for at in starts)
    return np.concatenate([attack(epsilon, pixels, truth) for pixels, truth in pairs])


# By engine and crafting precision.
ENGINES: dict[tuple[str, Precision], Callable[[keras.Model, int], Engine]] = {
    ("buckler", "bfloat16"): lambda network, size: Buckler(network, size, "bfloat16"),
    ("buckler", "float32"): lambda network, size: Buckler(network, size, "float32"),
    ("art", "float32"): Art,
    ("cleverhans", "float32"): CleverHans,
    ("foolbox", "float32"): Foolbox,
}


def work(name: tuple[str, Precision], model: Path, batch_size: int, pipe: Connection) -> None:
    """Serve rounds until ``pipe`` is closed: receives a task, images and labels, sends a ``Round``.

    Sends None when the network is loaded, and the text of an error instead of a round.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    warnings.simplefilter("ignore")  # deprecation warnings of the peers
    tf.get_logger().setLevel("ERROR")
    try:
        engine = ENGINES[name](checkpoint.load_network(model), batch_size)
        keras.utils.set_random_seed(0)
        pipe.send(None)
        while True:
            task, images, labels = pipe.recv()
            _reset_peak()
            began = time.perf_counter()
            adversarial = engine.craft(task, images, labels)
            pipe.send(Round(adversarial, time.perf_counter() - began, _peak_mib()))
    except (EOFError, ConnectionError):
        return  # the parent closed the pipe
    except Exception as error:  # the parent raises it
        pipe.send(f"{type(error).__name__}: {error}")


def _reset_peak() -> None:
    # Linux resets the peak; elsewhere the peak since the start of the process is reported.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
