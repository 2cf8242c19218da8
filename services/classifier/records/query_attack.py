"""What follows when one client's pictures look like a search for an adversarial one."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from buckler.serving.query_monitor import QueryMonitor, Rules, Sighting
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.records.audit import CLIENT_ID, Evidence
from services.classifier.records.traffic import OF_THE_WATCH
from services.classifier.requests import Picture
from services.classifier.settings import Settings

REFUSE, OFF = "refuse", "off"

logger = logging.getLogger("buckler.service")


class Queries:
    """The watch of one worker process. All clients without a key are one: nothing tells them apart."""

    def __init__(self, settings: Settings, evidence: Evidence) -> None:
        self._follows = settings.query_attack
        self._evidence = evidence
        rules = Rules(run=settings.query_run, window_seconds=settings.query_window_seconds)
        self._monitor = None if self._follows == OFF else QueryMonitor(rules)

    def suspects(self, pixels: NDArray[np.float32], picture: Path | Picture) -> bool:
        """Look at a picture and tell whether it is one of a run.

        Args:
            pixels: ``(height, width, 3)`` float32 in 0..1, as the model is to see them.
            picture: The bytes as they were received, or their file; or the pixels, where those were received.

        Raises:
            RefusalError: ``query_attack``: it is, and the settings say to refuse such pictures.
            RefusalError: ``audit_unavailable``: a run begins and the audit log cannot be written.
        """
        if self._monitor is None:
            return False
        sighting = self._monitor.see(CLIENT_ID.get(), pixels)
        if sighting.begins:
            self._report(sighting, picture)
        if sighting.in_run and self._follows == REFUSE:
            raise RefusalError("query_attack")
        return sighting.in_run

    def _report(self, sighting: Sighting, picture: Path | Picture) -> None:
        if not OF_THE_WATCH.get():  # its probe searches on purpose, each time
            metrics.QUERY_ATTACKS.inc()
        logger.warning(
            "client %s sends pictures that are all but the same, %d by now: a search for an adversarial one?",
            CLIENT_ID.get(),
            sighting.alike,
        )
        self._evidence.note("query_attack", picture, alike=sighting.alike, follows=self._follows)
