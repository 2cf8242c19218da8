"""What serves, and what served before it: swapped in one step, whatever requests are in the works."""

import time

from services.classifier.releases.loading import keep_from_the_collector
from services.classifier.served import Served


class ModelSlot:
    """The model that answers. A request reads ``served`` once and stays with it, whatever is swapped meanwhile.

    One thread swaps, any number read: to set an attribute is one step.
    """

    def __init__(self, served: Served | None = None, *, keep_previous_seconds: float = 0.0) -> None:
        self._served = served
        self._previous: Served | None = None
        self._since = 0.0
        self._keep = keep_previous_seconds

    @property
    def served(self) -> Served | None:
        """The model that answers, None while there is none."""
        return self._served

    @property
    def previous(self) -> Served | None:
        """The model that answered before, as long as it is kept."""
        return self._previous

    def swap(self, served: Served) -> None:
        """Let ``served`` answer from the next request on; what answered so far is kept for a while."""
        self._previous, self._since = self._served, time.monotonic()
        self._served = served
        self.release_previous()

    def update(self, served: Served) -> None:
        """Let the same model go on under another standing."""
        self._served = served

    def release_previous(self) -> None:
        """Let go of the model before this one once its time is over: it takes as much memory as this one."""
        if self._previous and time.monotonic() - self._since >= self._keep:
            self._previous = None
            keep_from_the_collector()
