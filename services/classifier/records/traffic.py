"""Stores measurements of answered pictures (`buckler.serving.traffic`) in a thread of its own.

The pictures of a model wait until there are enough of them to be mixed (`buckler.serving.traffic_mixing`); those that
still wait when the worker ends are lost. No answer waits for the thread or fails because of it: pictures are dropped
and counted if the queue is full or the database does not accept them in time.
"""

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from buckler.errors import DatabaseError
from buckler.modality.base import Modality, Upload
from buckler.serving.api_keys import ApiKey
from buckler.serving.settings import WATCH_HEADER, WATCH_KEY_NAME
from services.classifier import metrics
from services.classifier.settings import Settings

if TYPE_CHECKING:  # at run time the imports would load the engine and SQLAlchemy into the supervisor process
    from buckler.serving.predictor import Prediction
    from buckler.serving.traffic import Traffic, TrafficObservation

QUEUE = 64  # pictures that wait to be measured, with their pixels
KEPT = 2000  # rows kept while the database fails
BATCH = 200  # rows written together
STOP_CHECK_SECONDS = 0.25  # between two checks of an idle thread whether to stop
LONGEST_BACKOFF_SECONDS = 30.0
PRUNE_SECONDS = 300.0
STOP_SECONDS = 5.0

logger = logging.getLogger("buckler.service")


def is_from_watch(key: ApiKey | None, headers: Headers) -> bool:
    """Return whether a request comes from the watch.

    Where keys are required, the operator has named the watch's key; any client could send the header.
    """
    return key.name == WATCH_KEY_NAME if key else WATCH_HEADER in headers


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered picture before it is measured."""

    upload: Upload
    prediction: "Prediction"
    modality: Modality
    digest: str
    moment: float


class Recorder:
    """Records the traffic of one worker process; does nothing if the URL is ``off`` or unusable."""

    def __init__(self, settings: Settings) -> None:
        self._days, self._most = settings.traffic_days, settings.traffic_rows
        self._traffic = _open(settings.traffic_url)
        self._queue: Queue[Answered] = Queue(QUEUE)
        self._unmixed: dict[str, list[TrafficObservation]] = {}  # by the digest of the model
        self._rows: list[TrafficObservation] = []
        self._due = 0.0
        self._failures = 0
        self._prune_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Traffic", daemon=True)

    def start(self) -> None:
        """Start the thread that writes."""
        if self._traffic:
            self._thread.start()

    def stop(self) -> None:
        """Write the remaining mixed rows if the database accepts them, and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def enqueue(self, upload: Upload, prediction: "Prediction", modality: Modality, digest: str) -> None:
        """Queue an answered input if there is room; never waits, never raises.

        Inputs of a modality that the database has no columns for are left out.
        """
        from buckler.serving.traffic import has_columns_for

        if self._traffic is None or not has_columns_for(modality):
            return
        try:
            self._queue.put_nowait(Answered(upload, prediction, modality, digest, time.time()))
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
        """Create or upgrade the table before the first pictures arrive, because that loads Alembic."""
        with suppress(DatabaseError):  # the first write tries again, and reports
            if self._traffic:
                self._traffic.prepare()

    def _gather(self) -> None:
        """Measure one queued picture; the rows of a complete group are due at once, unless the database fails."""
        try:
            answered = self._queue.get(timeout=STOP_CHECK_SECONDS)
        except Empty:
            return
        self._measure(answered)
        if not self._failures:
            self._due = 0.0

    def _measure(self, answered: Answered) -> None:
        from buckler.serving.traffic import observe

        try:
            seen = observe(
                answered.upload,
                answered.prediction,
                answered.modality,
                digest=answered.digest,
                moment=answered.moment,
            )
            self._mix(seen)
        except Exception:  # no picture may end the thread
            metrics.TRAFFIC_DROPPED.inc()
            logger.exception("cannot measure a picture")

    def _mix(self, seen: "TrafficObservation") -> None:
        """Let a picture wait, or mix the group that it completes."""
        from buckler.serving.traffic_mixing import GROUP, mixed, secret_generator

        group = self._unmixed.setdefault(seen.digest, [])
        group.append(seen)
        if len(group) < GROUP:
            return
        del self._unmixed[seen.digest]
        if len(self._rows) + len(group) > KEPT:
            metrics.TRAFFIC_DROPPED.inc(len(group))
            return
        self._rows += mixed(group, secret_generator(), moment=seen.moment)

    def _write(self) -> bool:
        """Write a batch of rows; return whether the database accepted it."""
        if self._traffic is None:
            return False
        batch = self._rows[:BATCH]
        try:
            self._traffic.write(batch)
        except DatabaseError as error:
            self._postpone(error, len(batch))
            return False
        except Exception:  # a bug: the service goes on, and the metric counts the dropped pictures
            logger.exception("traffic: cannot write %d pictures", len(batch))
            self._drop(len(batch))
            return False
        if self._failures:
            logger.info("the traffic database accepts pictures again; %d were kept", len(self._rows))
        self._failures = 0
        self._rows = self._rows[len(batch) :]
        metrics.TRAFFIC_RECORDED.inc(len(batch))
        self._prune()
        return True

    def _postpone(self, error: DatabaseError, count: int) -> None:
        """Retry a temporary error later; drop rows that can never be written, or they would block all others."""
        if not self._failures:
            logger.error("traffic is not recorded: %s", error)
        self._failures += 1
        self._due = time.monotonic() + min(2.0 ** (self._failures - 1), LONGEST_BACKOFF_SECONDS)
        if not error.passing:
            self._drop(count)

    def _drop(self, count: int) -> None:
        self._rows = self._rows[count:]
        metrics.TRAFFIC_DROPPED.inc(count)

    def _prune(self) -> None:
        if self._traffic is None or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        try:
            self._traffic.prune(days=self._days, rows=self._most)
        except DatabaseError as error:
            logger.warning("cannot delete old traffic yet: %s", error)


def _open(url: str) -> "Traffic | None":
    from buckler.serving.traffic import OFF, Traffic

    if url == OFF:
        logger.info("no traffic is recorded: BUCKLER_TRAFFIC_URL is %r", OFF)
        return None
    try:
        traffic = Traffic(url)
    except DatabaseError as error:  # must not stop the service
        logger.error("no traffic is recorded: %s", error)
        return None
    logger.info("traffic is recorded in %s", traffic.shown_url)
    return traffic
