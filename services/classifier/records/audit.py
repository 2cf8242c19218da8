"""Writes the lines of answers and opinions to the audit log, and signs a receipt for a client that requests one."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.error_codes import ErrorCode
from buckler.errors import AuditError, BucklerError
from buckler.trust import audit, receipt
from buckler.trust.audit import AuditLog
from buckler.trust.audit_search import find_answer
from buckler.trust.signing_key import SigningKey
from services.classifier.contract import Answer, Feedback, ReceiptAnswer, RefusalError
from services.classifier.requests import Picture, PictureRequest, Sender
from services.classifier.settings import Settings

RECEIPT_HEADER = "x-buckler-receipt"
RECEIPT_KIND = "ed25519"

logger = logging.getLogger("buckler.service")


def wants_receipt(header: str | None) -> bool:
    """Return whether the header of a request asks for a receipt.

    Raises:
        RefusalError: ``receipt_unsupported``: the header names an unknown kind.
    """
    if header is not None and header.strip().lower() != RECEIPT_KIND:
        raise RefusalError(ErrorCode.RECEIPT_UNSUPPORTED)
    return header is not None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer whose line is written.

    Attributes:
        answer: Without a receipt.
        content: The same, as JSON types.
        input_digest: ``sha256:…`` of the picture as received.
        moment: Aware time of the answer.
        line: Number and digest of its line; None without a log.
    """

    answer: Answer
    content: dict[str, Any]
    input_digest: str
    moment: datetime
    line: tuple[int, str] | None


class AuditTrail:
    """Writes audit lines and signs receipts, as far as log and key are configured."""

    def __init__(self, settings: Settings) -> None:
        self._log = open_log(settings)
        self._key = _receipt_key(settings)

    @property
    def receipt_key(self) -> Ed25519PublicKey | None:
        """The key that verifies the receipts; None if none are signed."""
        return self._key.public_key() if self._key else None

    def check_receipt(self, request: PictureRequest) -> None:
        """Check that a requested receipt can be signed, before the model computes.

        Raises:
            RefusalError: ``receipt_unavailable``.
        """
        if request.receipt and self._key is None:
            raise RefusalError(ErrorCode.RECEIPT_UNAVAILABLE)

    def record(self, answer: Answer, picture: Picture, request: PictureRequest) -> Recorded:
        """Write the line of ``answer`` and return what its receipt is signed from.

        Args:
            answer: An answer without a receipt.
            picture: The received file, or the received pixels.
            request: The request that it belongs to.

        Raises:
            RefusalError: ``audit_unavailable``: no answer may be sent without its line.
        """
        moment, digest = datetime.now(UTC), _digest(picture)
        content = answer.model_dump(mode="json")
        line = self._write(audit.entry(content, client=request.sender.client, input_digest=digest, moment=moment))
        return Recorded(answer, content, digest, moment, line)

    def with_receipt(self, recorded: Recorded) -> Answer:
        """Return the answer with its receipt; a key in hardware may take its time.

        Raises:
            RefusalError: ``receipt_unavailable``: there is no key, or it cannot sign at present.
        """
        if self._key is None:
            raise RefusalError(ErrorCode.RECEIPT_UNAVAILABLE)
        try:
            envelope = receipt.issue(
                recorded.content,
                self._key,
                input_digest=recorded.input_digest,
                moment=recorded.moment,
                audit=recorded.line,
            )
        except BucklerError as error:
            logger.error("request %s: answer withheld: cannot sign its receipt: %s", recorded.answer.request_id, error)
            raise RefusalError(ErrorCode.RECEIPT_UNAVAILABLE, "the key of receipts cannot sign at present") from error
        return recorded.answer.model_copy(update={"receipt": ReceiptAnswer.model_validate(envelope)})

    def record_event(self, event: str, picture: Picture, sender: Sender, **details: Any) -> None:
        """Write a line about an event at a picture of ``sender``, in addition to the line of its answer.

        Raises:
            RefusalError: ``audit_unavailable``.
        """
        moment, digest = datetime.now(UTC), _digest(picture)
        self._write(audit.event(event, client=sender.client, input_digest=digest, moment=moment, details=details))

    def record_feedback(self, feedback: Feedback, sender: Sender) -> tuple[int, str]:
        """Write the line of an opinion about an answer that the log contains.

        Args:
            feedback: The opinion.
            sender: Who sent it; whoever knows the id of an answer may have an opinion about it.

        Returns:
            The number of the line, and the decision of the answer.

        Raises:
            RefusalError: ``feedback_unavailable`` without a log, ``answer_unknown``, ``label_unknown``,
                ``body_malformed`` if opinion and label contradict each other, or ``audit_unavailable``.
        """
        if self._log is None:
            raise RefusalError(ErrorCode.FEEDBACK_UNAVAILABLE)
        found = self._answer_line(self._log, feedback.request_id)
        answer = found["answer"]
        _check_label(feedback, answer)
        entry = audit.event(
            "feedback",
            client=sender.client,
            input_digest=found["input"],
            moment=datetime.now(UTC),
            details={
                **feedback.model_dump(mode="json", exclude_none=True),
                "answered": {"line": found["sequence"], "label": answer["label"], "decision": answer["decision"]},
                "model": answer["model"]["digest"],
            },
        )
        try:
            line = self._log.append(entry).sequence
        except AuditError as error:
            logger.error("an opinion is not recorded: %s", error)
            raise RefusalError(
                ErrorCode.AUDIT_UNAVAILABLE,
                "the opinion could not be written to the audit log; try again later, and tell an operator of the"
                " service",
            ) from error
        return line, answer["decision"]

    def _answer_line(self, log: AuditLog, request_id: str) -> dict[str, Any]:
        try:
            found = find_answer(log.path, request_id)
        except AuditError as error:
            logger.error("an opinion is not recorded: %s", error)
            raise RefusalError(ErrorCode.AUDIT_UNAVAILABLE, "the audit log cannot be read; try again later") from error
        if found is None:
            raise RefusalError(ErrorCode.ANSWER_UNKNOWN)
        return found

    def _write(self, entry: dict[str, Any]) -> tuple[int, str] | None:
        if self._log is None:
            return None
        try:
            head = self._log.append(entry)
        except AuditError as error:
            subject = f"request {entry['answer']['request_id']}" if "answer" in entry else f"a {entry['event']}"
            logger.error("%s: answer withheld: %s", subject, error)
            raise RefusalError(ErrorCode.AUDIT_UNAVAILABLE) from error
        return head.sequence, head.digest


def _check_label(feedback: Feedback, answer: Mapping[str, Any]) -> None:
    if feedback.label is None:
        return
    if feedback.label not in answer["probabilities"]:
        raise RefusalError(ErrorCode.LABEL_UNKNOWN)
    same = feedback.label == answer["label"]
    if (feedback.opinion, same) in (("agree", False), ("disagree", True)):
        raise RefusalError(
            ErrorCode.BODY_MALFORMED,
            "expected the label of the answer with agree, and another with disagree; correct one of the two",
        )


def _digest(picture: Picture) -> str:
    # Pixels: little-endian float32 in row-major order.
    content = picture if isinstance(picture, bytes) else picture.astype("<f4").tobytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def open_log(settings: Settings) -> AuditLog | None:
    """Return the log that the settings name, None without one; log an error if it is not writable."""
    if settings.audit_log == audit.OFF:
        logger.warning("the audit log is off: %s is %r", audit.LOG_ENV, audit.OFF)
        return None
    log = AuditLog(Path(settings.audit_log), fsync=settings.audit_fsync, segment_bytes=settings.audit_segment_bytes)
    try:
        head = log.head()
        logger.info("audit log %s continues after line %d, %s", log.path, head.sequence, head.digest)
    except AuditError as error:
        logger.error("/predict answers 503 until this is fixed: %s", error)
    return log


def _receipt_key(settings: Settings) -> SigningKey | None:
    """Return the key that signs receipts; None without one, or if it may not be used, which is logged."""
    try:
        return receipt.load_key(settings.receipt_key)
    except BucklerError as error:
        logger.error("receipts cannot be signed: %s", error)
        return None
