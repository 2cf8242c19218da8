"""Detects and answers query attacks: runs of near-identical pictures from one client."""

import logging

import numpy as np
from numpy.typing import NDArray

from buckler.error_codes import ErrorCode
from buckler.modality.base import Modality
from buckler.serving.query_monitor import QueryMonitor, QueryRules, QueryRun
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.records.audit import AuditTrail
from services.classifier.requests import Picture, Sender
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

    def in_run(self, sender: Sender, values: NDArray[np.float32], picture: Picture, modality: Modality) -> bool:
        """Return whether a picture is part of a run.

        Args:
            sender: Who sent it.
            values: The input of the model, float32 in 0..1.
            picture: The received file, or the received values.
            modality: Of the input.

        Raises:
            RefusalError: ``query_attack``: it is, and the settings refuse such pictures.
            RefusalError: ``audit_unavailable``: a run begins and the audit log cannot be written.
        """
        if self._monitor is None:
            return False
        run = self._monitor.observe(sender.client, values, modality)
        if run.begins:
            self._report(run, sender, picture)
        if run.in_run and self._follows == REFUSE:
            raise RefusalError(ErrorCode.QUERY_ATTACK)
        return run.in_run

    def _report(self, run: QueryRun, sender: Sender, picture: Picture) -> None:
        if not sender.from_watch:  # each run of its probe is such a search
            metrics.QUERY_ATTACKS.inc()
        logger.warning(
            "client %s sends near-identical pictures, %d so far: possibly a search for an adversarial one",
            sender.client,
            run.alike,
        )
        self._audit.record_event("query_attack", picture, sender, alike=run.alike, follows=self._follows)
