"""Detects and answers query attacks: runs of near-identical pictures from one client."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from buckler.serving.query_monitor import QueryMonitor, QueryRules, QueryRun
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.records.audit import CLIENT_ID, AuditTrail
from services.classifier.records.traffic import FROM_WATCH
from services.classifier.requests import Picture
from services.classifier.settings import Settings

REFUSE, OFF = "refuse", "off"

logger = logging.getLogger("buckler.service")


class QueryGuard:
    """The query monitor of one worker process. Clients without a key cannot be told apart and count as one."""

    def __init__(self, settings: Settings, audit: AuditTrail) -> None:
        self._follows = settings.query_attack
        self._audit = audit
        rules = QueryRules(run=settings.query_run, window_seconds=settings.query_window_seconds)
        self._monitor = None if self._follows == OFF else QueryMonitor(rules)

    def in_run(self, pixels: NDArray[np.float32], picture: Path | Picture) -> bool:
        """Return whether a picture is part of a run.

        Args:
            pixels: ``(height, width, 3)`` float32 in 0..1, the input of the model.
            picture: The received file or its path, or the received pixels.

        Raises:
            RefusalError: ``query_attack``: it is, and the settings refuse such pictures.
            RefusalError: ``audit_unavailable``: a run begins and the audit log cannot be written.
        """
        if self._monitor is None:
            return False
        run = self._monitor.observe(CLIENT_ID.get(), pixels)
        if run.begins:
            self._report(run, picture)
        if run.in_run and self._follows == REFUSE:
            raise RefusalError("query_attack")
        return run.in_run

    def _report(self, run: QueryRun, picture: Path | Picture) -> None:
        if not FROM_WATCH.get():  # each run of its probe is such a search
            metrics.QUERY_ATTACKS.inc()
        logger.warning(
            "client %s sends near-identical pictures, %d so far: possibly a search for an adversarial one",
            CLIENT_ID.get(),
            run.alike,
        )
        self._audit.record_event("query_attack", picture, alike=run.alike, follows=self._follows)
