"""The live model and the one before it, swapped in one step while requests are answered."""

import threading
import time
from dataclasses import replace

from buckler.trust.standing import Standing
from services.classifier.releases.loading import freeze_loaded_objects
from services.classifier.served import Served


class ModelSlot:
    """The live model. A request reads ``served`` once, so that a swap does not affect it.

    Two threads write, one that follows releases and one that follows standings; any number read.
    """

    def __init__(self, served: Served | None = None, *, keep_previous_seconds: float = 0.0) -> None:
        self._served = served
        self._previous: Served | None = None
        self._since = 0.0
        self._keep = keep_previous_seconds
        self._writing = threading.Lock()

    @property
    def served(self) -> Served | None:
        """The live model; None before the first one."""
        return self._served

    @property
    def previous(self) -> Served | None:
        """The model before the live one; None once it is released."""
        return self._previous

    def swap(self, served: Served) -> None:
        """Make ``served`` the live model from the next request on; keep the previous one for a while."""
        with self._writing:
            self._previous, self._since = self._served, time.monotonic()
            self._served = served
        self.release_previous()

    def update(self, served: Served) -> None:
        """Replace the live model by itself under another promotion."""
        with self._writing:
            self._served = served

    def restate(self, served: Served, standing: Standing) -> bool:
        """Give the live model another standing; return False if ``served`` is not the live one any more."""
        with self._writing:
            if self._served is None or self._served.predictor is not served.predictor:
                return False
            self._served = replace(self._served, standing=standing)
            return True

    def release_previous(self) -> None:
        """Release the previous model after its time: it takes as much memory as the live one."""
        if self._previous and time.monotonic() - self._since >= self._keep:
            self._previous = None
            freeze_loaded_objects()
