"""Applies new standings to the live model, in a thread of its own: a withdrawal must not wait for a download.

It asks for the live version, whatever the source names as the next one. A model that is served before the registry was
asked answers for review until then.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import SystemRandom

from buckler.serving.assessment import Accepted, RefusedError, assess
from buckler.serving.version import Version
from buckler.trust.keys import load_trusted_keys
from buckler.trust.public_keys import TrustedKeys
from buckler.trust.standing import DEGRADED, Claim, of_verdict
from services.classifier import metrics
from services.classifier.releases import lookup
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import ReleaseSource
from services.classifier.releases.standing_cache import StandingCache
from services.classifier.served import Served
from services.classifier.settings import Settings

# Whoever deletes the stored standing, or signs a withdrawal while no service runs, must not be overlooked.
UNASKED = Claim(DEGRADED, "the registry has not been asked about this version since the start")
SERVICE = "service"  # in place of the job that claims it

logger = logging.getLogger("buckler.service")


class StandingFollower:
    """Keeps the standing of the model in a slot at the newest that was accepted."""

    def __init__(
        self,
        settings: Settings,
        source: ReleaseSource,
        slot: ModelSlot,
        cache: StandingCache,
        refuse: Callable[[Exception], None],
    ) -> None:
        """Start nothing yet.

        Args:
            settings: Settings with the time between two checks.
            source: Provides the entry of the live version.
            slot: The live model.
            cache: Newest accepted standing of each version.
            refuse: Counts and logs a standing that is ignored.
        """
        self._settings, self._source, self._slot, self._cache, self._refuse = settings, source, slot, cache, refuse
        self._failed = False
        self._unasked = ""  # the version about which the registry has not been asked yet
        self._stop = threading.Event()

    def start(self) -> None:
        """Start a thread that checks until ``stop``."""
        threading.Thread(target=self._run, name=type(self).__name__, daemon=True).start()

    def stop(self) -> None:
        """Stop checking."""
        self._stop.set()

    def before_asking(self, served: Served) -> Served:
        """Return ``served`` with every answer for review until the registry has been asked about its version."""
        self._unasked = served.version
        known = served.standing or of_verdict(served.predictor.verdict, model_name=served.name, version=served.version)
        return replace(served, standing=known.claimed(SERVICE, UNASKED))

    def check(self) -> None:
        """Ask for the standing of the live version once, and apply it; never raises."""
        served = self._slot.served
        if served is None:
            return
        try:
            trusted = load_trusted_keys()
            self.accept(self._source.entry(served.version), trusted)
            self.apply(trusted)
        except Exception as error:  # registries and disks fail in many ways; the last standing stays
            if not self._failed:  # logged once, not at every check
                logger.warning("cannot find out the standing of version %s: %s", served.version, error)
            self._failed = True
        else:
            self._failed = False

    def accept(self, entry: Version, keys: TrustedKeys) -> None:
        """Store the standing of ``entry`` if it is valid and newer; otherwise the accepted one stays."""
        if entry.version == self._unasked:
            self._unasked = ""
        if reasons := self._cache.accept(entry, keys):
            self._refuse(RefusedError(f"the standing of {entry}", reasons))

    def apply(self, keys: TrustedKeys) -> None:
        """Apply the newest accepted standing of the live version."""
        served = self._slot.served
        if served is None or served.version == self._unasked:
            return
        entry = lookup.entry_of(served.version, self._settings)
        accepted, verdict = Accepted(self._cache.of(served.version, keys)), served.predictor.verdict
        standing = assess(entry, verdict, keys, now=datetime.now(UTC), promoted=False, accepted=accepted).standing
        if standing is None or standing == served.standing:
            return
        if self._slot.restate(served, standing):
            metrics.show_standing(self._slot.served or served)  # read again: another model may be live now
            logger.warning("version %s is %s %s", served.version, standing.state, "; ".join(standing.reasons))

    def _run(self) -> None:
        while not self._stop.wait(pause_seconds(self._settings)):
            self.check()


def pause_seconds(settings: Settings) -> float:
    """Return the time until the next check, which differs a little each time."""
    # Not `random.uniform`: this thread would advance a generator that other code has seeded.
    return settings.follow_seconds + SystemRandom().uniform(0, settings.follow_jitter_seconds)
