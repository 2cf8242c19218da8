"""Replaces the live model when its source names a new release, without a restart or a lost request.

A thread of each worker asks the source every few seconds. It downloads, verifies, loads, warms up and self-tests a new
release while requests are answered, then swaps one attribute. A release that fails any step is refused: counted,
logged, and not tried again until its entry, the key or its standing changes. The live model keeps answering.
A withdrawal waits for none of this: see `standing_follower`.
"""

import logging
import math
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from buckler.errors import BucklerError, FilesChangedError, ModelError, SelfTestError, VerdictError
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import Accepted, Assessment, OpenedRelease, Reason, ReasonCode, RefusedError, assess
from buckler.serving.release_files import read_release
from buckler.serving.version import Version
from buckler.state import exits
from buckler.trust import keys, signed
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.standing import Standing
from buckler.trust.verdict import Verdict
from services.classifier import metrics
from services.classifier.releases import lookup
from services.classifier.releases.loading import bound_threads, load
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import DirectorySource, RegistrySource, ReleaseSource
from services.classifier.releases.standing_cache import StandingCache
from services.classifier.releases.standing_follower import StandingFollower, pause_seconds
from services.classifier.served import Candidate, Served
from services.classifier.settings import Settings

LONGEST_RETRY_SECONDS = 600.0
NEVER_AGAIN = math.inf
PASSING = frozenset({ReasonCode.UNAVAILABLE, ReasonCode.SOURCE})

logger = logging.getLogger("buckler.service")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A release entry and the keys that verify it; a change of either justifies another attempt."""

    entry: Version
    keys_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last refused attempt.

    Attributes:
        standing: The release's standing at that time; another one, such as a renewal, justifies another attempt.
        head: Last signed record of the registry at that time; another one justifies another attempt, too.
        times: Consecutive refusals.
        again_at: Monotonic time of the next attempt.
    """

    attempt: Attempt
    standing: Standing | None
    head: str
    times: int
    again_at: float


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a release entry: the keys are read once, and everything is verified with them.

    Attributes:
        entry: Name, version and signed texts of the release.
        keys: Verify verdict, standing and promotion.
        standings: Newest accepted standing of each version.
        promoted: Whether the release needs a promotion.
        newest: Number of the newest promotion that was taken; an older one is refused.
    """

    entry: Version
    keys: TrustedKeys
    standings: StandingCache
    promoted: bool = False
    newest: int = 0

    @property
    def attempt(self) -> Attempt:
        """Entry and keys, to be compared with those of the last attempt."""
        return Attempt(self.entry, self.keys.id)

    @property
    def standing(self) -> Standing | None:
        """Newest accepted standing of the version; None without one."""
        return self.standings.of(self.entry.version, self.keys)

    def open(self, path: Path) -> OpenedRelease:
        """Return the release in ``path`` and what its files say."""
        return read_release(path, self.keys, model=self.entry.model)

    def assess(self, verdict: Verdict | None, flaws: tuple[Reason, ...] = ()) -> Assessment:
        """Return whether the release may serve now, given its verdict and the flaws of its files."""
        now = datetime.now(UTC)  # after the download, during which a verdict may expire
        accepted = Accepted(self.standing, self.newest)
        return assess(self.entry, verdict, self.keys, now=now, flaws=flaws, promoted=self.promoted, accepted=accepted)


class Follower:
    """Keeps the model in a slot at the release that a source names."""

    may_answer = True  # clients get its answers, so it must have passed its gate
    sought = "which release is to serve"

    def __init__(self, settings: Settings, source: ReleaseSource, slot: ModelSlot) -> None:
        self.settings, self.slot = settings, slot
        self._source = source
        self._standing_cache = StandingCache(settings)
        self._standings = StandingFollower(settings, source, slot, self._standing_cache, self._log_refusal)
        self._taken: Attempt | None = None
        self._refused: Refusal | None = None
        self._newest = 0
        self._keys: PublicKeys | None = None  # that verified the newest promotion
        self._head = lookup.kept_head(settings)
        self._put_back = ""  # the head for which that was counted
        self._source_error: Exception | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Start a thread that checks until ``stop``, and one for the standing of the live model."""
        if self.may_answer:
            self._standings.start()
        threading.Thread(target=self._run, name=type(self).__name__, daemon=True).start()

    def stop(self) -> None:
        """Stop checking; do not wait for a release that is being loaded."""
        self._standings.stop()
        self._stop.set()

    def check(self) -> Exception | None:
        """Ask the source once and take a new release; never raises.

        Returns:
            The error of the source; None if it answered.
        """
        self.slot.release_previous()
        try:
            trusted = keys.load_trusted_keys()
            self._use_keys(trusted.promotion)
            # Before the registry, or another worker that has just seen a newer record would make it look put back.
            seen = self._head.highest(trusted.promotion) if self._source.promotes else 0
            check = Check(self._source.look(), trusted, self._standing_cache, self._source.promotes, self._newest)
        except Exception as error:  # as in `_try`
            if self._source_error is None:  # logged once, not at every check
                logger.warning("cannot find out %s: %s", self.sought, error)
            self._source_error = error
            return error
        self._source_error = None
        self.count_check()
        if self.may_answer:
            self._standings.accept(check.entry, trusted)
        if not self._is_put_back(check, seen) and check.attempt != self._taken and self._due(check):
            self._try(check)
        if self.may_answer:
            self._standings.apply(trusted)
        return None

    def _use_keys(self, promotion: PublicKeys) -> None:
        """Forget the number of the newest promotion when the keys change: a thief of an old key may have chosen it."""
        if self._keys not in (None, promotion):
            self._newest = 0
        self._keys = promotion

    def take(self, served: Served) -> None:
        """Make ``served`` the live model, export and log it."""
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
        """Export the time at which the source answered."""
        metrics.CHECKED.set_to_current_time()

    def count_refused(self, reason: str) -> None:
        """Count a refused release."""
        metrics.MODEL_REFUSED.labels(reason=reason).inc()

    def show_behind(self, behind: bool) -> None:
        """Export whether the source names another release than the live one."""
        metrics.BEHIND.set(behind)

    def begin_with_last_good(self) -> None:
        """Serve the last good release if its signed records are valid, so that a restarted worker answers at once.

        The registry, which may be unreachable, is not asked; the first check follows immediately. Until then every
        answer is for review.
        """
        try:
            trusted = keys.load_trusted_keys()
            if (found := lookup.last_good(self.settings, trusted)) is None:
                return
            kept, record = found
            entry = lookup.entry_of(kept.version, self.settings, kept.promotion)
            check = Check(entry, trusted, self._standing_cache, promoted=True)
            release = check.open(kept.path)
            served = self._loaded(release, check.assess(release.verdict, release.reasons))
        except Exception as error:  # as in `_try`
            self._log_refusal(error)
        else:
            self._newest, self._keys = record.sequence, trusted.promotion
            self.take(self._standings.before_asking(replace(served, kept=kept)))

    def begin(self) -> None:
        """Check for the first time; an error of the source counts as a refused release."""
        if error := self.check():
            self._count(error)

    def _run(self) -> None:
        self.check()
        while not self._stop.wait(pause_seconds(self.settings)):
            self.check()

    def _due(self, check: Check) -> bool:
        refused = self._refused
        if refused is None or refused.attempt != check.attempt or time.monotonic() >= refused.again_at:
            return True
        return (refused.standing, refused.head) != (check.standing, check.entry.head)

    def _is_put_back(self, check: Check, seen: int) -> bool:
        """Return whether the registry ends before record ``seen``, which was there; keep its last one otherwise."""
        if not check.promoted:
            return False
        entry = check.entry
        number = signed.number(entry.head, check.keys.promotion, model=entry.model, registry=entry.registry)
        if number >= seen:
            if self._put_back:
                self.show_behind(check.attempt != self._taken)
            self._keep_head(check)
            return False
        if self._put_back != (shown := f"{number} < {seen}"):  # counted once
            self._put_back = shown
            self.show_behind(True)
            sentence = (
                f"the registry ends with signed record {number}, record {seen} was there before: it was put back to an"
                f" earlier state; find who writes to it, then `buckler promote --version N` of the champion"
            )
            self._log_refusal(RefusedError(str(entry), (Reason(ReasonCode.PUT_BACK, sentence),)))
        return True

    def _keep_head(self, check: Check) -> None:
        self._put_back = ""
        try:
            self._head.keep(check.entry.head, check.keys.promotion)
        except OSError as error:  # a full disk must not stop the follower
            logger.warning("cannot store the highest signed record for the next restart: %s", error)

    def _try(self, check: Check) -> None:
        try:
            served, assessment = self._admitted(check)
        except Exception as error:  # files and runtimes fail in many ways; this thread and the live model go on
            self._refuse(check, error)
            return
        self._taken, self._refused = check.attempt, None
        self._newest = assessment.promotion.sequence if assessment.promotion else 0
        self.show_behind(False)
        self.take(served)
        if self.may_answer:
            self._standings.check()  # it may have been withdrawn while it was downloaded

    def _admitted(self, check: Check) -> tuple[Served, Assessment]:
        if known := self._in_memory(check):
            served, release = known
            assessment = check.assess(release.verdict, release.reasons)
            self._require(assessment)
            served = replace(served, standing=assessment.standing, approved_by=assessment.approved_by)
            return self._kept(served, release.path, assessment), assessment
        with self._source.fetched(check.entry) as release:
            assessment = check.assess(release.verdict, release.reasons)
            return self._kept(self._loaded(release, assessment), release.path, assessment), assessment

    def _require(self, assessment: Assessment) -> None:
        if not (assessment.may_load if self.may_answer else assessment.may_compare):
            raise RefusedError(f"{assessment.version} is not loaded", assessment.reasons)

    def _loaded(self, release: OpenedRelease, assessment: Assessment) -> Served:
        self._require(assessment)
        try:
            return load(release, assessment, self.settings)
        except (ModelError, SelfTestError) as error:
            from buckler.serving.loadable import reason_of  # its engine was just loaded

            reasons = (*assessment.reasons, reason_of(error, release))
            raise RefusedError(f"{assessment.version} is not loaded", reasons) from error

    def _kept(self, served: Served, path: Path, assessment: Assessment) -> Served:
        kept = self._source.keep(Candidate(path, served.version, assessment.version.promotion))
        return replace(served, kept=kept or served.kept)

    def _in_memory(self, check: Check) -> tuple[Served, OpenedRelease] | None:
        """Return the release if it is loaded, and intact on disk, where a restarted worker needs it."""
        for served in (self.slot.served, self.slot.previous):
            if served and served.kept and served.matches(check.entry):
                release = check.open(served.kept.path)
                if release.authentic:
                    return served, release
        return None

    def _refuse(self, check: Check, error: Exception) -> None:
        if self._changed_meanwhile(check.entry):
            return  # old and new files were mixed; the next check reads the new ones
        attempt = check.attempt
        times = self._refused.times + 1 if self._refused and self._refused.attempt == attempt else 1
        # A registry, a source or a disk may recover, and a copy that was changed is downloaded again; wrong bytes and
        # signatures stay wrong.
        wait = min(self.settings.follow_seconds * 2**times, LONGEST_RETRY_SECONDS)
        lasting = PASSING.isdisjoint(codes_of(error)) and not isinstance(error, FilesChangedError)
        again_at = NEVER_AGAIN if lasting else time.monotonic() + wait
        self._refused = Refusal(attempt, check.standing, check.entry.head, times, again_at)
        self.show_behind(True)
        self._log_refusal(error)

    def _changed_meanwhile(self, entry: Version) -> bool:
        try:
            return self._source.look() != entry
        except Exception:  # the next check logs it
            return False

    def _log_refusal(self, error: Exception) -> None:
        self._count(error)
        expected = isinstance(error, (BucklerError, OSError))
        codes = ", ".join(codes_of(error))
        why = exits.explain(error) if isinstance(error, OSError) else error
        logger.error("release refused (%s): %s", codes, why, exc_info=None if expected else error)

    def _count(self, error: Exception) -> None:
        for code in codes_of(error):
            self.count_refused(code)


def codes_of(error: Exception) -> tuple[str, ...]:
    """Return the metric labels of a refusal: every reason, ``unavailable`` if the release could not be assessed."""
    if isinstance(error, RefusedError):
        return tuple(dict.fromkeys(reason.code for reason in error.reasons))
    return (error.reason if isinstance(error, VerdictError) else metrics.UNAVAILABLE,)


def follow(settings: Settings, slot: ModelSlot) -> Follower:
    """Fill ``slot`` with a verified release; return the follower that updates it once started.

    If the settings name a directory, only that release is served. Otherwise the last good release is served first, so
    that a refused champion or an unreachable registry does not stop the service.
    """
    bound_threads(settings.workers)
    source: ReleaseSource = (
        DirectorySource(settings, settings.release) if settings.release else RegistrySource(settings, CHAMPION)
    )
    follower = Follower(settings, source, slot)
    if not settings.release:
        follower.begin_with_last_good()
    if slot.served is None:
        follower.begin()
    if slot.served is None:
        logger.error("no release could be verified; /predict answers 503 until one can")
    return follower
