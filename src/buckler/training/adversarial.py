"""Adversarial training: each batch is attacked with the current network, which is trained on the attacked pictures.

Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083; with one
step, Wong, Rice & Kolter, "Fast is better than free", arXiv 2001.03994; Zhang et al., "Theoretically principled
trade-off between robustness and accuracy" (TRADES), arXiv 1901.08573.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from buckler.attacks.base import Batch
from buckler.attacks.iterative import PGD
from buckler.compute.machine import Precision
from buckler.modality.base import LEVELS, Change, Images, Labels, Radius, RadiusUnit
from buckler.models.backend import keras, tf
from buckler.models.classifier import Classifier, copy_in
from buckler.models.networks import table
from buckler.params import Count, Number, Positive, Share, Whole
from buckler.radius import StatedRadius
from buckler.state import files
from buckler.training.loop import History

VALIDATION_STEPS = 7  # of PGD, each epoch
VALIDATION_PICTURES = 96  # attacked each epoch
# A single step goes further than the radius from its random start, and is clipped (Wong et al., section 5.1).
SINGLE_STEP = 1.25


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is hardened.

    Attributes:
        radius: L-infinity radius of the attack; the first ``rising_epochs`` climb up to it.
        rising_epochs: Epochs until the full radius.
        steps: Gradient steps of the attack: 1 is FGSM from a random start, more are PGD.
        loss: The cross-entropy of the attacked pictures, or TRADES: the cross-entropy of the clean ones plus
            ``trades_beta`` times the Kullback-Leibler divergence of the attacked answer from the clean one. The
            attack climbs the cross-entropy in both cases.
        trades_beta: Weight of the second term of TRADES.
        clean_share: Share of each batch left clean; TRADES ignores it, as it uses every picture clean and attacked.
        malignant_weight: Weight of the loss on pictures of dangerous classes, relative to that of the others.
        label_smoothing: Share of the target given to all classes alike.
        unfrozen_blocks: Number of trainable blocks of the base, counted from the last; the head is always trainable.
        epochs: Passes over the training pictures.
        batch_size: Pictures a step.
        learning_rate: Peak of Adam's, reached after a tenth of all steps; from there it falls as a cosine to zero.
        clip_norm: Largest norm of a whole gradient.
        averaging: Share of the past kept in the moving average of the weights, which is the result.
    """

    radius: StatedRadius
    rising_epochs: Whole
    steps: Count
    loss: Literal["cross_entropy", "trades"]
    trades_beta: Number
    clean_share: Share
    malignant_weight: Positive
    label_smoothing: Share
    unfrozen_blocks: Whole
    epochs: Count
    batch_size: Count
    learning_rate: Annotated[Positive, Field(le=10)]
    clip_norm: Positive
    averaging: Share

    def __post_init__(self) -> None:
        """Reject invalid values.

        Raises:
            ValueError: Some value is out of range.
        """
        if self.unfrozen_blocks < 0:
            raise ValueError(f"expected unfrozen_blocks of at least 0, got {self.unfrozen_blocks}")
        if min(self.steps, self.epochs, self.batch_size) < 1 or min(self.radius.number, self.learning_rate) <= 0:
            raise ValueError(f"expected steps, epochs, batch_size, radius and learning_rate above 0, got {self}")
        if not (0 <= self.clean_share < 1 and 0 <= self.label_smoothing < 1 and 0 <= self.averaging < 1):
            raise ValueError(f"expected clean_share, label_smoothing and averaging in 0..1, got {self}")
        if self.loss != "trades" and round(self.clean_share * self.batch_size) == self.batch_size:
            raise ValueError(f"expected clean_share to leave an attacked picture in a batch, got {self}")


@dataclass(frozen=True, slots=True)
class Examples:
    """Pictures ``images`` (n, height, width, 3) in 0..1 and their class indices ``truth`` (n,)."""

    images: Images
    truth: Labels


def harden(
    network: keras.Model,
    training: Examples,
    validation: Examples,
    recipe: Recipe,
    *,
    precision: Precision,
    dangerous: Sequence[int] = (),
    seed: int,
    vary: Change,
    unit: RadiusUnit = LEVELS,
    state: Path | None = None,
    on_batch: Callable[[int], object] | None = None,
    on_epoch: Callable[[int, dict[str, float]], object] | None = None,
) -> History:
    """Train ``network`` in place on attacked pictures; return one row an epoch.

    A row has the loss and accuracy on training pictures as they were seen, and loss, accuracy and robust accuracy
    (a short PGD at the full radius) of the averaged weights on validation pictures, which do not influence training.

    Args:
        network: Pixels to logits; its head must be trained on clean pictures, or adversarial training collapses.
        training: Pictures to train on.
        validation: Pictures to measure on.
        recipe: Settings.
        precision: Of forward and backward passes; weights and their updates are float32.
        dangerous: Indices of the classes that ``malignant_weight`` applies to.
        seed: Of the order, the turns and the random starts; each epoch draws from its own generator.
        vary: Gives training inputs in forms that show the same, as `Modality.varied`.
        unit: Of the recipe's radius.
        state: File with the state after each epoch, from which an interrupted training resumes; removed at the end.
            A file of another recipe, start or data set is ignored.
        on_batch: Called with the number of batches done since its last call.
        on_epoch: Called after each epoch with its number and its row.
    """
    keras.utils.set_random_seed(seed)
    lesson = _Lesson(network, training, recipe, precision, dangerous, vary, unit)
    key = _key(network, training, recipe, precision, dangerous, seed)
    history = lesson.restore(state, key) if state else []
    if on_batch:
        on_batch(len(history) * lesson.batches)
    for epoch in range(len(history), recipe.epochs):
        # An epoch's draws depend on its number alone: resumed or not, they are the same.
        tf.random.set_seed(seed + epoch)
        seen = lesson.epoch(epoch, np.random.default_rng((seed, epoch)), on_batch)
        history.append({"epoch": epoch + 1, **seen, **lesson.measure(validation, seed)})
        if state:
            lesson.save(state, key, history)
        if on_epoch:
            on_epoch(epoch + 1, history[-1])
    network.set_weights(lesson.averaged.get_weights())
    if state:
        state.unlink(missing_ok=True)
    return history


class _Lesson:
    """The trained network, the moving average of its weights, the optimiser, and one compiled step."""

    def __init__(
        self,
        network: keras.Model,
        training: Examples,
        recipe: Recipe,
        precision: Precision,
        dangerous: Sequence[int],
        vary: Change,
        unit: RadiusUnit,
    ) -> None:
        self._training, self._recipe, self._vary = training, recipe, vary
        self._radius = unit.radius(recipe.radius)
        self.batches = max(len(training.truth) // recipe.batch_size, 1)
        # Copies: the network itself changes only at the end. Their variables are float32 in any precision.
        self._student, self.averaged = (_copy(network, precision) for _ in range(2))
        unfreeze(self._student, recipe.unfrozen_blocks)
        self._variables = self._student.trainable_variables
        self._averages = _same(self._variables, self._student, self.averaged)
        schedule = _WarmCosine(recipe.learning_rate, recipe.epochs * self.batches)
        self._optimiser = keras.optimizers.Adam(schedule, global_clipnorm=recipe.clip_norm)
        self._optimiser.build(self._variables)
        # These classifiers share the copies' variables: attacks and measurements use the current weights.
        self._size = min(recipe.batch_size, len(training.truth))
        self._clean = 0 if recipe.loss == "trades" else round(recipe.clean_share * self._size)
        self._attacked = Classifier(self._student, batch_size=self._size - self._clean)
        self._judged = Classifier(self.averaged, batch_size=self._size)
        self._weights = np.ones(network.output_shape[-1], np.float32)
        self._weights[list(dangerous)] = recipe.malignant_weight
        self._step = tf.function(self._trades_step if recipe.loss == "trades" else self._plain_step)

    def epoch(
        self, number: int, generator: np.random.Generator, on_batch: Callable[[int], object] | None
    ) -> dict[str, float]:
        """Train on every picture once; return mean loss and accuracy during the epoch."""
        recipe, size, clean = self._recipe, self._size, self._clean
        epsilon = self._radius.value * min(1.0, (number + 1) / max(1, recipe.rising_epochs))
        rows = []
        order = generator.permutation(len(self._training.truth))
        for start in range(0, self.batches * size, size):
            places = order[start : start + size]
            images, truth = self._vary(self._training.images[places], generator), self._training.truth[places]
            adversarial = images.copy()
            adversarial[clean:] = self._attack(images[clean:], truth[clean:], epsilon, generator)
            loss, right = self._step(images, adversarial, *self._targets(truth))
            rows.append((float(loss), float(right)))
            if on_batch:
                on_batch(1)
        mean = np.mean(rows, axis=0)
        return {"loss": float(mean[0]), "accuracy": float(mean[1])}

    def measure(self, validation: Examples, seed: int) -> dict[str, float]:
        """Return loss and accuracy of the averaged weights on ``validation``, and accuracy under a short PGD."""
        logits = self._judged.logits(validation.images)
        few = slice(0, VALIDATION_PICTURES)
        images, truth = validation.images[few], validation.truth[few]
        adversarial = PGD(steps=VALIDATION_STEPS)(self._judged, Batch(images, truth, seed=seed), self._radius)
        robust = self._judged.logits(adversarial).argmax(axis=1) == truth
        return {
            "val_loss": float(np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(validation.truth, logits))),
            "val_accuracy": float(np.mean(logits.argmax(axis=1) == validation.truth)),
            "val_robust_accuracy": float(np.mean(robust & (logits[few].argmax(axis=1) == truth))),
        }

    def save(self, path: Path, key: str, history: History) -> None:
        """Write everything that the next epoch needs, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {f"{name}_{i}": value for name, values in self._state().items() for i, value in enumerate(values)}
        arrays = {name: np.asarray(value) for name, value in parts.items()}
        with files.replacing(path) as aside, aside.open("wb") as file:
            np.savez(file, allow_pickle=False, key=key, history=json.dumps(history), **arrays)

    def restore(self, path: Path, key: str) -> History:
        """Load the state in ``path`` if its key is ``key``; return the history of its epochs."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    return []
                for name, values in self._state().items():
                    for i, value in enumerate(values):
                        value.assign(arrays[f"{name}_{i}"])
                return [dict(row) for row in json.loads(str(arrays["history"]))]
        except FileNotFoundError:
            return []

    def _state(self) -> dict[str, Sequence[Any]]:
        return {
            "student": self._student.variables,
            "averaged": self.averaged.variables,
            "optimiser": self._optimiser.variables,
        }

    def _attack(self, images: Images, truth: Labels, epsilon: float, generator: np.random.Generator) -> Images:
        steps = self._recipe.steps
        attack = PGD(steps=steps, step_size=SINGLE_STEP * epsilon if steps == 1 else None, early_exit=False)
        return attack(self._attacked, Batch(images, truth, seed=int(generator.integers(2**31))), Radius(epsilon))

    def _targets(self, truth: Labels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return smoothed one-hot targets ``(batch, classes)`` and the pictures' weights, one on average."""
        classes = len(self._weights)
        smooth = self._recipe.label_smoothing
        targets = np.eye(classes, dtype=np.float32)[truth] * (1 - smooth) + smooth / classes
        weights = self._weights[truth]
        return targets.astype(np.float32), (weights / weights.mean()).astype(np.float32)

    def _plain_step(self, images: Any, adversarial: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logits = self._student(adversarial, training=True)
            loss = tf.reduce_mean(weights * tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        self._update(tape.gradient(loss, self._variables))
        return loss, _accuracy(targets, logits)

    def _trades_step(self, images: Any, adversarial: Any, targets: Any, weights: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            both = self._student(tf.concat([images, adversarial], axis=0), training=True)
            clean, attacked = tf.split(both, 2)
            natural = tf.nn.softmax_cross_entropy_with_logits(targets, clean)
            answers = tf.nn.softmax(clean)
            apart = tf.reduce_sum(answers * (tf.nn.log_softmax(clean) - tf.nn.log_softmax(attacked)), axis=1)
            loss = tf.reduce_mean(weights * (natural + self._recipe.trades_beta * apart))
        self._update(tape.gradient(loss, self._variables))
        return loss, _accuracy(targets, attacked)

    def _update(self, gradients: Sequence[Any]) -> None:
        self._optimiser.apply(gradients, self._variables)
        # The first steps get a smaller decay, so that the average does not retain the initial weights.
        steps = tf.cast(self._optimiser.iterations, tf.float32)
        keep = tf.minimum(self._recipe.averaging, steps / (10 + steps))
        for average, variable in zip(self._averages, self._variables, strict=True):
            average.assign(keep * average.value + (1 - keep) * variable.value)


class _WarmCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises over the first tenth of ``steps``, then falls as a cosine."""

    def __init__(self, peak: float, steps: int) -> None:
        self._peak, self._steps = peak, max(steps, 1)

    def __call__(self, step: Any) -> Any:
        """Return the rate at ``step``."""
        done = tf.cast(step, tf.float32) / self._steps
        falling = 0.5 * (1 + tf.cos(np.pi * (done - 0.1) / 0.9))
        return self._peak * tf.where(done < 0.1, (done + 1 / self._steps) / 0.1, falling)


def _copy(network: keras.Model, precision: Precision) -> keras.Model:
    if precision != "float32":
        return copy_in(network, precision)
    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    return twin


def unfreeze(network: keras.Model, blocks: int) -> None:
    """Make the head and the last ``blocks`` blocks of the base trainable, and freeze the others.

    A Keras model without taps has no blocks: all of it becomes trainable. Batch normalisation stays frozen: its moving
    averages are those of clean pictures, and the average of the weights, which is the result, does not cover them.

    Raises:
        ValueError: The base has fewer blocks.
    """
    ends = [tap.layer for tap in table.taps_of(network)]
    if ends and blocks > len(ends):
        raise ValueError(f"expected 0 to {len(ends)} unfrozen_blocks for {network.name}, got {blocks}")
    frozen = len(ends) - blocks
    for layer in network.layers:
        layer.trainable = frozen <= 0 and not isinstance(layer, keras.layers.BatchNormalization)
        frozen -= layer.name in ends


def _same(variables: Sequence[Any], model: keras.Model, twin: keras.Model) -> list[Any]:
    """Return the variables of ``twin`` at the positions that ``variables`` have in ``model``."""
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    return [twin.variables[places[id(variable)]] for variable in variables]


def _accuracy(targets: Any, logits: Any) -> Any:
    return tf.reduce_mean(tf.cast(tf.argmax(targets, axis=1) == tf.argmax(logits, axis=1), tf.float32))


def _key(network: keras.Model, training: Examples, recipe: Recipe, *rest: Any) -> str:
    """Return a digest of everything that the training depends on."""
    digest = hashlib.sha256(json.dumps([asdict(recipe), *map(repr, rest)]).encode())
    for array in (*network.get_weights(), training.images, training.truth):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
