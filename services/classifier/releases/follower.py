"""Keeps the service at the release that its source names, without a restart and without a lost request.

A thread of each worker looks every few seconds. What is new is fetched, verified, loaded, warmed up and asked about its
reference pictures beside the requests; then one attribute is swapped. What fails any of it is refused: counted, logged,
and not tried again before something about it changes. The last good one goes on.
"""

import logging
import math
import threading
import time
from dataclasses import dataclass, replace
from random import SystemRandom

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import BucklerError, SelfTestError, VerdictError
from buckler.trust import keys
from buckler.trust.promotion import PromotionRecord
from buckler.trust.standing import Standing
from buckler.trust.verdict import check_valid
from services.classifier import metrics
from services.classifier.releases import lookup
from services.classifier.releases.loading import bound_threads, load
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import ChampionSource, DirectorySource, ReleaseSource
from services.classifier.releases.standing_cache import StandingCache
from services.classifier.served import EARLIEST, Candidate, ReleaseEntry, Served
from services.classifier.settings import Settings

LONGEST_RETRY_SECONDS = 600.0
NEVER_AGAIN = math.inf

logger = logging.getLogger("buckler.service")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A release entry and the key that verifies it; a change of either justifies another attempt."""

    entry: ReleaseEntry
    key_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused, how often in a row, and when (on the monotonic clock) it may be tried again.

    A verdict that has expired may be renewed: with another standing it is worth another try.
    """

    attempt: Attempt
    standing: Standing | None
    times: int
    again_at: float


class Follower:
    """Looks at a source and swaps what a slot holds; see the module's head."""

    may_answer = True  # clients see what it takes, so that must have passed its gate
    sought = "which release is to serve"

    def __init__(self, settings: Settings, source: ReleaseSource, slot: ModelSlot) -> None:
        self.settings, self.slot = settings, slot
        self._source = source
        self._standing_cache = StandingCache(settings)
        self._taken: Attempt | None = None
        self._refused: Refusal | None = None
        self._newest = EARLIEST
        self._away: Exception | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Go on looking, in a thread of its own, until ``stop``."""
        threading.Thread(target=self._run, name=type(self).__name__, daemon=True).start()

    def stop(self) -> None:
        """Look no more; a release that is being loaded is not waited for."""
        self._stop.set()

    def check(self) -> Exception | None:
        """Look once and take what is new; never raises, and returns why the source could not be asked."""
        self.slot.release_previous()
        try:
            key = keys.load_public_key()
            entry = self._source.look()
        except Exception as error:  # as in `_try`
            if self._away is None:  # said once, not at every look
                logger.warning("cannot find out %s: %s", self.sought, error)
            self._away = error
            return error
        self._away = None
        self.count_check()
        self._accept_standing(entry, key)
        attempt = Attempt(entry, keys.key_id(key))
        if attempt != self._taken and self._due(attempt, key):
            self._try(attempt, key)
        self._update_standing(key)
        return None

    def take(self, served: Served) -> None:
        """Let ``served`` answer, and say so."""
        before, previous = self.slot.served, self.slot.previous
        if before and served.predictor is before.predictor:
            self.slot.update(served)
            metrics.show_standing(served)
            return
        from_memory = previous is not None and served.predictor is previous.predictor
        self.slot.swap(served)
        metrics.show_model(served, before)
        if before:
            metrics.SWAPS.labels(model=metrics.FROM_MEMORY if from_memory else metrics.FETCHED).inc()
        logger.info("serving %s version %s, digest %s", served.name, served.version, served.predictor.digest)

    def count_check(self) -> None:
        """Export that the source was asked."""
        metrics.CHECKED.set_to_current_time()

    def count_refused(self, reason: str) -> None:
        """Export a refusal."""
        metrics.MODEL_REFUSED.labels(reason=reason).inc()

    def show_behind(self, behind: bool) -> None:
        """Export whether something else is to serve than what serves."""
        metrics.BEHIND.set(behind)

    def begin_with(self, kept: Candidate) -> None:
        """Let the release that verified last answer, if it still does: a worker that was killed is back at once.

        It asks no registry, which may be away; the first look comes right after.
        """
        self._newest = kept.promoted_at
        try:
            key = keys.load_public_key()
            served = load(kept, self.settings, key, standing=self._standing_cache.of(kept.version, key))
        except Exception as error:  # as in `_try`
            self._say_refused(error)
        else:
            self.take(replace(served, kept=kept))

    def begin(self) -> None:
        """Look for the first time, and count it as a refusal if the source cannot be asked."""
        if error := self.check():
            self.count_refused(reason_of(error))

    def _run(self) -> None:
        self.check()
        while not self._stop.wait(self._pause()):
            self.check()

    def _pause(self) -> float:
        # Not `random.uniform`: a thread would change what somebody else has seeded.
        jitter = SystemRandom().uniform(0, self.settings.follow_jitter_seconds)
        return self.settings.follow_seconds + jitter

    def _due(self, attempt: Attempt, key: Ed25519PublicKey) -> bool:
        refused = self._refused
        if refused is None or refused.attempt != attempt or time.monotonic() >= refused.again_at:
            return True
        return refused.standing != self._standing_cache.of(attempt.entry.version, key)

    def _accept_standing(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> None:
        if not self.may_answer:
            return
        try:
            self._standing_cache.accept(entry, key)
        except VerdictError as error:  # what was heard before goes on
            self._say_refused(error)

    def _update_standing(self, key: Ed25519PublicKey) -> None:
        """Follow what was signed about the version that answers, whether another is to take its place or not."""
        served = self.slot.served
        if served is None or not self.may_answer:
            return
        try:
            now = served.with_standing(self._standing_cache.of(served.version, key))
        except VerdictError:  # of another release under that number, which is refused elsewhere
            return
        if now is not served:
            self.take(now)
            logger.warning("version %s is %s %s", now.version, now.state, "; ".join(now.standing.reasons))

    def _try(self, attempt: Attempt, key: Ed25519PublicKey) -> None:
        try:
            served, record = self._admitted(attempt.entry, key)
        except Exception as error:  # whatever a file or a runtime makes of it: this thread and the old model go on
            self._refuse(attempt, error, self._standing_cache.of(attempt.entry.version, key))
            return
        self._taken, self._refused = attempt, None
        self._newest = record.moment if record else EARLIEST
        self.show_behind(False)
        self.take(served)

    def _admitted(self, entry: ReleaseEntry, key: Ed25519PublicKey) -> tuple[Served, PromotionRecord | None]:
        record = self._source.admit(entry, key, self._newest)
        served = self._in_memory(entry)
        if served is None:
            return self._fetched(entry, key, record), record
        verdict = served.predictor.verdict
        served = served.with_standing(self._standing_cache.of(entry.version, key))
        check_valid(verdict, valid_until=served.expires_at)
        if record and served.kept:
            record.check(verdict)
            kept = self._source.keep(replace(served.kept, promoted_at=record.moment), key)
            served = replace(served, kept=kept)
        return served, record

    def _in_memory(self, entry: ReleaseEntry) -> Served | None:
        """Return what is loaded already, if it is kept on disk too: it has to be there after a restart."""
        for served in (self.slot.served, self.slot.previous):
            if served and served.kept and served.matches(entry) and served.kept.path.is_dir():
                return served
        return None

    def _fetched(self, entry: ReleaseEntry, key: Ed25519PublicKey, record: PromotionRecord | None) -> Served:
        with self._source.fetched(entry, key) as candidate:
            stands = self._standing_cache.of(entry.version, key) if self.may_answer else None
            served = load(candidate, self.settings, key, may_answer=self.may_answer, standing=stands)
            if record:
                record.check(served.predictor.verdict)
                candidate = replace(candidate, promoted_at=record.moment)
            return replace(served, kept=self._source.keep(candidate, key))

    def _refuse(self, attempt: Attempt, error: Exception, stands: Standing | None) -> None:
        if self._changed_meanwhile(attempt):
            return  # half of the old and half of the new was read; the next look sees one whole
        times = self._refused.times + 1 if self._refused and self._refused.attempt == attempt else 1
        # A registry or a disk may come back; bytes and signatures do not get better by themselves.
        wait = min(self.settings.follow_seconds * 2**times, LONGEST_RETRY_SECONDS)
        lasting = reason_of(error) != metrics.UNAVAILABLE
        self._refused = Refusal(attempt, stands, times, NEVER_AGAIN if lasting else time.monotonic() + wait)
        self.show_behind(True)
        self._say_refused(error)

    def _changed_meanwhile(self, attempt: Attempt) -> bool:
        try:
            return self._source.look() != attempt.entry
        except Exception:  # the next look says so
            return False

    def _say_refused(self, error: Exception) -> None:
        reason = reason_of(error)
        self.count_refused(reason)
        expected = isinstance(error, (BucklerError, OSError))
        logger.error("release refused (%s): %s", reason, error, exc_info=None if expected else error)


def reason_of(error: Exception) -> str:
    """Return the label under which a refusal because of ``error`` is counted."""
    if isinstance(error, VerdictError):
        return error.reason
    return metrics.SELF_TEST if isinstance(error, SelfTestError) else metrics.UNAVAILABLE


def follow(settings: Settings, slot: ModelSlot) -> Follower:
    """Fill ``slot`` with a release that verifies, and return who will keep it up to date once started.

    A release given as a directory is meant: nothing else takes its place. From the registry, the last good
    release serves first, if it still verifies: also where the champion is refused or the registry away.
    """
    bound_threads(settings.workers)
    source: ReleaseSource = DirectorySource(settings.release) if settings.release else ChampionSource(settings)
    follower = Follower(settings, source, slot)
    kept = None if settings.release else lookup.last_good(settings)
    if kept:
        follower.begin_with(kept)
    if slot.served is None:
        follower.begin()
    if slot.served is None:
        logger.error("no release verifies; /predict answers 503 until one does")
    return follower
