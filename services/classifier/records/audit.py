"""What stays of an answer: its line in the audit log, and a signed receipt for the client that asks for one.

Whoever is known to the front door is named in ``CLIENT_ID``; who asks for a receipt, in ``RECEIPT_WANTED``.
"""

import hashlib
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import AuditError, BucklerError
from buckler.trust import audit, digests, receipt
from buckler.trust.audit import AuditLog
from services.classifier.contract import Answer, ReceiptAnswer, RefusalError
from services.classifier.requests import Picture
from services.classifier.settings import Settings

ANONYMOUS = "anonymous"
CLIENT_ID: ContextVar[str] = ContextVar("client_id", default=ANONYMOUS)  # of a key, never the key itself
RECEIPT_WANTED: ContextVar[bool] = ContextVar("receipt_wanted", default=False)

RECEIPT_HEADER = "x-buckler-receipt"
RECEIPT_KIND = "ed25519"

logger = logging.getLogger("buckler.service")


def wants_receipt(header: str | None) -> bool:
    """Tell whether a request's header asks for a receipt.

    Raises:
        RefusalError: ``receipt_unsupported``: for a kind of receipt that there is not.
    """
    if header is not None and header.strip().lower() != RECEIPT_KIND:
        raise RefusalError("receipt_unsupported")
    return header is not None


class AuditTrail:
    """Writes the line and signs the receipt; without a log or a key, what the settings leave of it."""

    def __init__(self, settings: Settings) -> None:
        self._log = open_log(settings)
        self._key = receipt_key(settings)

    def check_receipt(self) -> None:
        """See, before the model is asked, whether what the client wants can be had.

        Raises:
            RefusalError: ``receipt_unavailable``.
        """
        if RECEIPT_WANTED.get() and self._key is None:
            raise RefusalError("receipt_unavailable")

    def record(self, answer: Answer, picture: Path | Picture) -> Answer:
        """Return ``answer``, with its receipt if one is wanted, once its line is written.

        Args:
            answer: Without a receipt.
            picture: The bytes as they were received, or their file; or the pixels, where those were received.

        Raises:
            RefusalError: ``audit_unavailable``: an answer that is not in the log must not exist.
        """
        moment, digest = datetime.now(UTC), _digest(picture)
        content = answer.model_dump(mode="json")
        line = self._write(audit.entry(content, client=CLIENT_ID.get(), input_digest=digest, moment=moment))
        if not RECEIPT_WANTED.get() or self._key is None:
            return answer
        envelope = receipt.issue(content, self._key, input_digest=digest, moment=moment, audit=line)
        return answer.model_copy(update={"receipt": ReceiptAnswer.model_validate(envelope)})

    def record_event(self, event: str, picture: Path | Picture, **details: Any) -> None:
        """Write a line about what happened at ``picture``, beside the line of its answer, if it gets one.

        Raises:
            RefusalError: ``audit_unavailable``.
        """
        moment, digest = datetime.now(UTC), _digest(picture)
        self._write(audit.event(event, client=CLIENT_ID.get(), input_digest=digest, moment=moment, details=details))

    def _write(self, entry: dict[str, Any]) -> tuple[int, str] | None:
        if self._log is None:
            return None
        try:
            head = self._log.append(entry)
        except AuditError as error:
            subject = f"request {entry['answer']['request_id']}" if "answer" in entry else f"a {entry['event']}"
            logger.error("%s is not answered: %s", subject, error)
            raise RefusalError("audit_unavailable") from error
        return head.sequence, head.digest


def _digest(picture: Path | Picture) -> str:
    if isinstance(picture, Path):
        return digests.file_digest(picture)
    # Of pixels: the float32 values as they lie in memory, little-endian, row by row.
    content = picture if isinstance(picture, bytes) else picture.astype("<f4").tobytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def open_log(settings: Settings) -> AuditLog | None:
    """Return the log that the settings name, None for none; one that cannot be written to is said at once."""
    if settings.audit_log == audit.OFF:
        logger.warning("no audit log is kept: %s is %r", audit.LOG_ENV, audit.OFF)
        return None
    log = AuditLog(Path(settings.audit_log), fsync=settings.audit_fsync, segment_bytes=settings.audit_segment_bytes)
    try:
        head = log.head()
        logger.info("audit log %s goes on after line %d, %s", log.path, head.sequence, head.digest)
    except AuditError as error:
        logger.error("/predict answers 503 until this is mended: %s", error)
    return log


def receipt_key(settings: Settings) -> Ed25519PrivateKey | None:
    """Return the key to sign receipts with; None without one, or with one that must not be used, which is logged."""
    try:
        return receipt.load_key(settings.receipt_key)
    except BucklerError as error:
        logger.error("no receipt is signed: %s", error)
        return None
