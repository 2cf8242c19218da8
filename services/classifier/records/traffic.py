"""Remembers numbers of answered pictures (`buckler.serving.traffic`), in a thread that no answer waits for.

An answer is never late, and never missing, because of this: what finds the queue full is dropped and counted, and so is
what the database does not take in time. A worker that is killed loses what it has not written, a second of traffic.
"""

import logging
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from buckler.errors import DatabaseError
from buckler.modality.picture.uploads import Upload
from buckler.serving.api_keys import ApiKey
from buckler.serving.traffic import OFF, WATCH_HEADER, WATCH_KEY_NAME, Observation, Traffic, observe
from services.classifier import metrics
from services.classifier.settings import Settings

if TYPE_CHECKING:  # importing it for real would load the engine into the supervisor process
    from buckler.serving.predictor import Prediction

QUEUE = 64  # pictures that wait to be measured; each holds its pixels
KEPT = 2000  # rows that are kept while the database is away
BATCH = 200  # rows that are written together
BATCH_SECONDS = 1.0
LOOK_UP_SECONDS = 0.25  # after which a waiting thread sees whether it is to end
LONGEST_BACKOFF_SECONDS = 30.0
PRUNE_SECONDS = 300.0
STOP_SECONDS = 5.0

# Set by the front door: pictures of the watch's own are no traffic.
OF_THE_WATCH: ContextVar[bool] = ContextVar("of_the_watch", default=False)

logger = logging.getLogger("buckler.service")


def is_of_the_watch(key: ApiKey | None, headers: Headers) -> bool:
    """Tell whether a request is the watch's own.

    Where keys are asked for their name says so, which the operator gave: a header would be any client's to send.
    """
    return key.name == WATCH_KEY_NAME if key else WATCH_HEADER in headers


@dataclass(frozen=True, slots=True)
class Answered:
    """A picture and its answer, not measured yet."""

    upload: Upload
    prediction: "Prediction"
    digest: str
    moment: float


class Recorder:
    """Remembers the traffic of one worker process; with the URL ``off``, or one that cannot be used, nothing."""

    def __init__(self, settings: Settings) -> None:
        self._days, self._most = settings.traffic_days, settings.traffic_rows
        self._traffic = _open(settings.traffic_url)
        self._queue: Queue[Answered] = Queue(QUEUE)
        self._rows: list[Observation] = []
        self._due = 0.0
        self._failures = 0
        self._prune_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Traffic", daemon=True)

    def start(self) -> None:
        """Write, in a thread of its own."""
        if self._traffic:
            self._thread.start()

    def stop(self) -> None:
        """Write what is left, if the database takes it, and no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def enqueue(self, upload: Upload, prediction: "Prediction", digest: str) -> None:
        """Take a picture that was answered, if there is room; never waits, never raises."""
        if self._traffic is None or OF_THE_WATCH.get():
            return
        try:
            self._queue.put_nowait(Answered(upload, prediction, digest, time.time()))
        except Full:
            metrics.TRAFFIC_DROPPED.inc()

    def _run(self) -> None:
        self._prepare()
        while not self._stop.is_set():
            self._gather()
            if self._rows and time.monotonic() >= self._due:
                self._write()
        while not self._queue.empty():
            self._measure(self._queue.get_nowait())
        while self._rows and self._write():
            pass

    def _prepare(self) -> None:
        """Create or upgrade the table now, not with the first pictures: that loads Alembic."""
        with suppress(DatabaseError):  # the first write tries again, and reports
            if self._traffic:
                self._traffic.prepare()

    def _gather(self) -> None:
        """Measure what is offered, until there is a batch or it is time to write."""
        try:
            answered = self._queue.get(timeout=LOOK_UP_SECONDS)
        except Empty:
            return
        if not self._rows:
            self._due = time.monotonic() + BATCH_SECONDS
        self._measure(answered)
        if len(self._rows) >= BATCH and not self._failures:
            self._due = 0.0

    def _measure(self, answered: Answered) -> None:
        if len(self._rows) >= KEPT:
            metrics.TRAFFIC_DROPPED.inc()
            return
        try:
            self._rows.append(
                observe(answered.upload, answered.prediction, digest=answered.digest, moment=answered.moment)
            )
        except Exception:  # nothing that a picture holds may end the thread
            metrics.TRAFFIC_DROPPED.inc()
            logger.exception("a picture could not be measured")

    def _write(self) -> bool:
        """Write a batch of what was measured and tell whether the database takes more."""
        if self._traffic is None:
            return False
        batch = self._rows[:BATCH]
        try:
            self._traffic.write(batch)
        except DatabaseError as error:
            self._put_off(error, len(batch))
            return False
        except Exception:  # a fault of ours: the service goes on, and the numbers say what is missing
            logger.exception("traffic: %d pictures could not be written", len(batch))
            self._let_go(len(batch))
            return False
        if self._failures:
            logger.info("the traffic's database takes pictures again, %d were kept", len(self._rows))
        self._failures = 0
        self._rows = self._rows[len(batch) :]
        metrics.TRAFFIC_RECORDED.inc(len(batch))
        self._prune()
        return True

    def _put_off(self, error: DatabaseError, count: int) -> None:
        """Try again later what may pass; let go of what will not, or one bad row would stop all others."""
        if not self._failures:
            logger.error("traffic is not recorded: %s", error)
        self._failures += 1
        self._due = time.monotonic() + min(2.0 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS)
        if not error.passing:
            self._let_go(count)

    def _let_go(self, count: int) -> None:
        self._rows = self._rows[count:]
        metrics.TRAFFIC_DROPPED.inc(count)

    def _prune(self) -> None:
        if self._traffic is None or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        try:
            self._traffic.prune(days=self._days, rows=self._most)
        except DatabaseError as error:
            logger.warning("old traffic is not forgotten yet: %s", error)


def _open(url: str) -> Traffic | None:
    if url == OFF:
        logger.info("no traffic is recorded: BUCKLER_TRAFFIC_URL is %r", OFF)
        return None
    try:
        traffic = Traffic(url)
    except DatabaseError as error:  # no reason not to serve
        logger.error("no traffic is recorded: %s", error)
        return None
    logger.info("traffic is recorded in %s", traffic.shown_url)
    return traffic
