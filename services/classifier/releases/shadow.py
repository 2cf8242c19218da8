"""The challenger beside the champion: asked about a share of the same pictures, compared, never answered with.

A clinician's answer must not wait for a comparison: pictures go into a short queue, what finds it full is dropped, and
the challenger computes while no answer is being computed. What it says becomes metrics and a line in the log.
"""

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue

import numpy as np
from numpy.typing import NDArray

from buckler.modality.picture.uploads import load_pixels
from services.classifier import metrics
from services.classifier.contract import Answer
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import ChallengerSource
from services.classifier.requests import Picture
from services.classifier.served import Served
from services.classifier.settings import Settings

QUEUE = 4  # pictures that wait; each is at most a request's body
LOOK_UP_SECONDS = 1.0  # after which a waiting thread sees whether it is to end

logger = logging.getLogger("buckler.service")


@dataclass(frozen=True, slots=True)
class Task:
    """A picture as it was received, and what the champion answered."""

    picture: bytes
    answer: Answer


class ChallengerFollower(Follower):
    """Follows the challenger. It may have failed its gate: that is what it is looked at for; signed it must be."""

    may_answer = False
    sought = "which challenger is to be asked too"

    def take(self, served: Served) -> None:
        """Let ``served`` be asked; see `Follower`."""
        self.slot.swap(served)
        logger.info("shadow: version %s, digest %s, is asked too", served.version, served.predictor.digest)

    def count_check(self) -> None:
        """Export nothing: that the registry is away is the champion's follower's to say."""

    def count_refused(self, reason: str) -> None:
        """Export a refusal; nothing that serves depends on it."""
        metrics.SHADOW_REFUSED.labels(reason=reason).inc()

    def show_behind(self, behind: bool) -> None:
        """Export nothing; see ``count_refused``."""


class Shadow:
    """Takes pictures that were answered and compares; with a share of 0, does nothing at all."""

    def __init__(self, settings: Settings) -> None:
        self._share = settings.shadow_share
        self._slot = ModelSlot()
        self._follower = ChallengerFollower(settings, ChallengerSource(settings), self._slot)
        self._tasks: Queue[Task] = Queue(QUEUE)
        self._nobody_waits = threading.Event()
        self._nobody_waits.set()
        self._stop = threading.Event()

    def start(self) -> None:
        """Follow the challenger and compare, in threads of their own."""
        if self._share:
            self._follower.start()
            threading.Thread(target=self._run, name="Shadow", daemon=True).start()

    def stop(self) -> None:
        """Follow and compare no more."""
        self._follower.stop()
        self._stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Begin no comparison while a client waits; one that has begun is at most one picture long."""
        self._nobody_waits.clear()
        try:
            yield
        finally:
            self._nobody_waits.set()

    def enqueue(self, picture: Path | Picture, answer: Answer) -> None:
        """Take a picture that was answered, if it falls into the share and there is room; never raises.

        What came as pixels has the champion's size, which need not be the challenger's, and is let go.
        """
        challenger = self._slot.served
        if challenger is None or random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return
        if challenger.predictor.digest == answer.model.digest:
            return  # promoted: it would be compared with itself
        if not isinstance(picture, Path | bytes):
            return
        try:
            self._tasks.put_nowait(Task(picture if isinstance(picture, bytes) else picture.read_bytes(), answer))
        except (Full, OSError):
            metrics.SHADOW_PICTURES.labels(outcome=metrics.DROPPED).inc()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                task = self._tasks.get(timeout=LOOK_UP_SECONDS)
            except Empty:
                continue
            self._nobody_waits.wait()
            self._compare(task)

    def _compare(self, task: Task) -> None:
        challenger = self._slot.served
        if challenger is None:
            return
        try:
            self._say(task.answer, challenger, load_pixels(task.picture, size=challenger.predictor.image_size))
        except Exception:  # a challenger may fail in any way; the service goes on
            metrics.SHADOW_PICTURES.labels(outcome=metrics.FAILED).inc()
            logger.exception("shadow: version %s did not answer %s", challenger.version, task.answer.request_id)

    def _say(self, answer: Answer, challenger: Served, pixels: NDArray[np.float32]) -> None:
        prediction = challenger.predictor(pixels)
        differs = {
            "label": prediction.label != answer.label,
            "decision": prediction.decision != answer.decision,
            "detector": prediction.verdict != answer.detector.verdict,
        }
        labels = {*prediction.probabilities, *answer.probabilities}
        difference = max(
            abs(prediction.probabilities.get(label, 0.0) - answer.probabilities.get(label, 0.0)) for label in labels
        )
        metrics.count_shadow(differs, difference)
        logger.info(
            "shadow request=%s champion=%s challenger=%s differs=%s probability_difference=%.4f",
            answer.request_id,
            answer.model.version,
            challenger.version,
            ",".join(about for about, yes in differs.items() if yes) or "no",
            difference,
        )
