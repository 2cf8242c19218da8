"""Shadow comparison: the challenger classifies a share of the answered pictures; clients never get its answers.

No client waits for a comparison: pictures go into a short queue and are dropped when it is full, and the challenger
computes only while no answer is being computed. The differences are exported as metrics and logged.
"""

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Full, Queue

import numpy as np
from numpy.typing import NDArray

from buckler.serving.aliases import CHALLENGER
from services.classifier import metrics
from services.classifier.contract import Answer
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import RegistrySource
from services.classifier.requests import Picture
from services.classifier.served import Served
from services.classifier.settings import Settings

QUEUE = 4  # waiting pictures, each at most as large as a request body
STOP_CHECK_SECONDS = 1.0  # between two checks of an idle thread whether to stop

logger = logging.getLogger("buckler.service")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A received picture and the champion's answer, to be compared with the challenger's."""

    picture: bytes
    answer: Answer


class ChallengerFollower(Follower):
    """Follows the challenger, whose signed verdict may have failed or expired."""

    may_answer = False
    sought = "which challenger to compare with"

    def take(self, served: Served) -> None:
        """Compare with ``served`` from now on; see `Follower`."""
        self.slot.swap(served)
        logger.info("shadow: comparing with version %s, digest %s", served.version, served.predictor.digest)

    def count_check(self) -> None:
        """Export nothing: the champion's follower reports whether the registry answers."""

    def count_refused(self, reason: str) -> None:
        """Count a rejected challenger apart from rejected live models."""
        metrics.SHADOW_REFUSED.labels(reason=reason).inc()

    def show_behind(self, behind: bool) -> None:
        """Export nothing; see ``count_refused``."""


class Shadow:
    """Compares a share of the answered pictures; with a share of 0, does nothing."""

    def __init__(self, settings: Settings) -> None:
        self._share = settings.shadow_share
        self._slot = ModelSlot()
        self._follower = ChallengerFollower(settings, RegistrySource(settings, CHALLENGER), self._slot)
        self._queue: Queue[Comparison] = Queue(QUEUE)
        self._idle = threading.Event()
        self._idle.set()
        self._stop = threading.Event()

    def start(self) -> None:
        """Start one thread that follows the challenger and one that compares."""
        if self._share:
            self._follower.start()
            threading.Thread(target=self._run, name="Shadow", daemon=True).start()

    def stop(self) -> None:
        """Stop both threads."""
        self._follower.stop()
        self._stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Start no comparison while a client waits; a running one takes at most one picture."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def enqueue(self, picture: Picture, answer: Answer) -> None:
        """Queue an answered picture if it falls into the share and there is room; never raises.

        Pictures sent as pixels are skipped: they have the champion's input size, which may not be the challenger's.
        """
        challenger = self._slot.served
        if challenger is None or random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return
        if challenger.predictor.digest == answer.model.digest:
            return  # the challenger was promoted and would be compared with itself
        if not isinstance(picture, bytes):
            return
        try:
            self._queue.put_nowait(Comparison(picture, answer))
        except Full:
            metrics.SHADOW_PICTURES.labels(outcome=metrics.DROPPED).inc()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                comparison = self._queue.get(timeout=STOP_CHECK_SECONDS)
            except Empty:
                continue
            self._idle.wait()
            self._compare(comparison)

    def _compare(self, comparison: Comparison) -> None:
        challenger = self._slot.served
        if challenger is None:
            return
        try:
            form = challenger.predictor.form
            upload = form.modality.receive(comparison.picture, form.shape, frame=comparison.answer.frame)
            self._report(comparison.answer, challenger, upload.values)
        except Exception:  # a challenger may fail in many ways; the service goes on
            metrics.SHADOW_PICTURES.labels(outcome=metrics.FAILED).inc()
            logger.exception("shadow: version %s did not answer %s", challenger.version, comparison.answer.request_id)

    def _report(self, answer: Answer, challenger: Served, pixels: NDArray[np.float32]) -> None:
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
