"""The attacks of the panel on the picture page, and how each changes a picture.

TensorFlow takes seconds to load and most users never run an attack: only the functions load it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from buckler.detection.reasons import Reason
from buckler.errors import BucklerError
from buckler.modality.base import Images, Labels

if TYPE_CHECKING:
    from buckler.attacks.base import Batch
    from buckler.detection.screening import Screening
    from buckler.modality.base import Radius
    from buckler.models.classifier import Classifier
    from buckler.models.forward import Logits
    from buckler.models.gradients import GradientClassifier, LossName
    from buckler.models.restored import RestoredClassifier
    from buckler.state.locations import Location

# In 1/255, the same for all attacks, so that random noise is a fair control. Files store whole levels of 255: a smaller
# change would round to nothing.
RADII = ("1/255", "2/255", "4/255", "8/255")
PGD_STEPS, INFORMED_STEPS = 20, 10
BEST = 3
LIMIT_SECONDS = 60.0  # without loading and waiting


@dataclass(frozen=True, slots=True)
class Attacker:
    """One choice of the panel.

    Attributes:
        name: In requests.
        title, description: For people.
        passes: Most gradients that it computes.
    """

    name: str
    title: str
    description: str
    passes: int


NOISE, FGSM, PGD, INFORMED = ATTACKERS = (
    Attacker("noise", "Random noise", "No attacker, as a control: each colour value moves up or down at random.", 0),
    Attacker("fgsm", "FGSM", "The attacker has the model and takes one step along the sign of its gradient.", 1),
    Attacker("pgd", "PGD", f"The attacker has the model and takes up to {PGD_STEPS} small steps.", PGD_STEPS),
    Attacker(
        "informed",
        "Knows the detector",
        "The attacker has the model, the detector and the limits of the decision, and seeks a wrong answer without a"
        " warning.",
        3 * INFORMED_STEPS + PGD_STEPS,  # one search for each of evasion.OBJECTIVES, then PGD
    ),
)


class StoppedError(BucklerError):
    """An attack was ended before it had a result."""


class Progress:
    """How far an attack is: one thread computes it, others read it and may stop it.

    Attributes:
        passes: Most gradients that it computes.
        done: Gradients computed so far.
        loading: Whether it may still be loading the model's weights.
    """

    def __init__(self, passes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.passes, self.done, self.loading = passes, 0, True
        self._clock, self._end = clock, float("inf")
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to count the time."""
        self._end = self._clock() + LIMIT_SECONDS

    def stop(self) -> None:
        """Let the attack end at its next gradient."""
        self._stopped.set()

    def step(self) -> None:
        """Count a gradient.

        Raises:
            StoppedError: The attack was stopped, or its time is over.
        """
        if self._stopped.is_set():
            raise StoppedError("another attack was started from this page; wait for its result")
        if self._clock() > self._end:
            raise StoppedError(
                f"the attack took longer than {LIMIT_SECONDS:.0f} s on this computer; choose FGSM, which needs one step"
            )
        self.done += 1


@dataclass(frozen=True, slots=True)
class Reference:
    """What an attacker computes with: the float32 network of a release, and its detector.

    Attributes:
        digest: Of the released model.
        image_size: Side of its input in pixels.
        classifier: The network.
        screening: The input checks.
        evaders: Network and detector as one model, for each objective; none if the network answers at random, where
            one gradient says little.
    """

    digest: str
    image_size: int
    classifier: "Classifier | RestoredClassifier"
    screening: "Screening"
    evaders: "tuple[GradientClassifier, ...]"


def load(model: "Location", digest: str) -> Reference:
    """Return the reference of the released model in the directory ``model``.

    Raises:
        BucklerError: TensorFlow is not installed, or the directory contains no valid model.
    """
    try:
        from buckler.detection.screening import Screening
        from buckler.evaluation.evasion import OBJECTIVES, Evader, accepted_lead
        from buckler.models import checkpoint, restored
        from buckler.models.classifier import Classifier
    except ModuleNotFoundError as error:
        raise BucklerError(
            f"an attack needs gradients, and {error.name} is not installed; install the extra `cpu`"
        ) from error
    info, network, screening = checkpoint.load_info(model), checkpoint.load_network(model), Screening.load(model)
    objectives = () if info.defence == "randomised" else OBJECTIVES
    lead = accepted_lead(screening)
    step = restored.step_of(info, model)
    evaders = tuple(
        restored.behind(step, Evader(network, screening, objective, batch_size=1, lead=lead))
        for objective in objectives
    )
    classifier = Classifier(network, batch_size=1)
    whole = classifier if step is None else restored.RestoredClassifier(step, classifier)
    reference = Reference(digest, info.shape[0], whole, screening, evaders)
    _warm_up(reference)
    return reference


def _warm_up(reference: Reference) -> None:
    """Compute everything once: the first call of each function takes longer than a whole attack."""
    grey, label = np.full((1, *[reference.image_size] * 2, 3), 0.5, np.float32), np.zeros(1, np.int64)
    for model in (reference.classifier, *reference.evaders):
        model.loss_gradient(grey, label)
    reference.classifier.forward(grey)
    reference.classifier.logits(grey)


def craft(reference: Reference, attacker: Attacker, pixels: Images, radius: str, progress: Progress) -> Images:
    """Return a picture after an attack: whole levels of 255, within the radius.

    Args:
        reference: What the attacker has.
        attacker: One of ``ATTACKERS``.
        pixels: ``(height, width, 3)`` float32 in 0..1, whole levels of 255.
        radius: Largest change of a colour value, one of `RADII`.
        progress: Counts the gradients.

    Raises:
        StoppedError: The attack was stopped, or its time is over.
        BucklerError: No such attack fits this model.
    """
    from buckler.attacks.base import Batch
    from buckler.modality.base import LEVELS
    from buckler.radius import StatedRadius

    images = pixels[None]
    # The true label is not known: move away from the present answer.
    label = np.asarray(reference.classifier.logits(images).argmax(axis=1), np.int64)
    attacked = _CRAFTS[attacker.name](reference, Batch(images, label), LEVELS.radius(StatedRadius(radius)), progress)
    return np.asarray(attacked[0], np.float32)


def _noise(_: Reference, batch: "Batch", radius: "Radius", __: Progress) -> Images:
    from buckler.attacks.noise import Noise

    return _rounded(Noise(), None, batch, radius)


def _fgsm(reference: Reference, batch: "Batch", radius: "Radius", progress: Progress) -> Images:
    from buckler.attacks.gradient import FGSM

    return _rounded(FGSM(), _Counted(reference.classifier, progress), batch, radius)


def _pgd(reference: Reference, batch: "Batch", radius: "Radius", progress: Progress) -> Images:
    from buckler.attacks.iterative import PGD

    return _rounded(PGD(steps=PGD_STEPS), _Counted(reference.classifier, progress), batch, radius)


def _informed(reference: Reference, batch: "Batch", radius: "Radius", progress: Progress) -> Images:
    """Return the first result that changes the answer without a warning, else the best one by `_rank`.

    With PGD as the last try, an attacker who knows more is never weaker.
    """
    if not reference.evaders:
        raise BucklerError("this model changes pictures at random before it answers; choose an attack that ignores it")
    found = [batch.images]
    for attacked in _tries(reference, batch, radius, progress):
        found.append(attacked)
        if _rank(reference, attacked, batch.labels) == BEST:
            break
    return max(reversed(found), key=lambda attacked: _rank(reference, attacked, batch.labels))


def _tries(reference: Reference, batch: "Batch", radius: "Radius", progress: Progress) -> Iterator[Images]:
    from buckler.attacks.iterative import PGD

    for evader in reference.evaders:
        yield _rounded(PGD(steps=INFORMED_STEPS), _Counted(evader, progress), batch, radius)
    yield _pgd(reference, batch, radius, progress)


def _rank(reference: Reference, attacked: Images, labels: Labels) -> int:
    """Return 0 for the same answer, 1 for a changed one, 2 if the detector misses it, `BEST` if every check does."""
    forward = reference.classifier.forward(attacked)
    if forward.logits.argmax(axis=1)[0] == labels[0]:
        return 0
    _, flags = reference.screening.flags(attacked, forward)
    if not any(found[0] for found in flags.values()):
        return BEST
    return 1 if flags[Reason.ADVERSARIAL][0] else 2


def _rounded(attack: Any, model: Any, batch: "Batch", radius: "Radius") -> Images:
    from buckler.attacks.ball import on_grid

    attacked: Images = attack(model, batch, radius)
    return on_grid(attacked, batch.images, radius)


class _Counted:
    """A model whose gradients are counted."""

    def __init__(self, model: "GradientClassifier", progress: Progress) -> None:
        self._model, self._progress, self.precision = model, progress, model.precision

    def logits(self, images: Images) -> "Logits":
        """Return the model's logits."""
        return self._model.logits(images)

    def loss_gradient(
        self, images: Images, labels: Labels, loss: "LossName" = "cross_entropy"
    ) -> "tuple[Images, Logits]":
        """Return the model's gradient and logits, and count them."""
        self._progress.step()
        return self._model.loss_gradient(images, labels, loss)


_CRAFTS = {NOISE.name: _noise, FGSM.name: _fgsm, PGD.name: _pgd, INFORMED.name: _informed}
