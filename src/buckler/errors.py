"""Exceptions of Buckler; messages state what was expected, what was found and what to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from buckler.error_codes import ErrorCode

if TYPE_CHECKING:
    from pydantic import ValidationError


class BucklerError(Exception):
    """Base of all expected errors; the message is written for users."""


class ParamsError(BucklerError):
    """A setting is missing, unknown or has an invalid value."""


class FolderError(BucklerError):
    """The project's folder and the code that runs do not belong together."""


class InputRangeError(BucklerError, ValueError):
    """Pixels lie outside 0..1."""


class DataError(BucklerError):
    """A data source, manifest or split has invalid content."""


class UnusableInputError(BucklerError):
    """A file contains no input that can be decoded safely.

    Attributes:
        code: One of ``CODES``; used by the REST API and the quarantine.
    """

    CODES: ClassVar[tuple[ErrorCode, ...]] = (ErrorCode.RECORD_INVALID,)

    def __init__(self, code: ErrorCode, message: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"expected one of {', '.join(self.CODES)}, got {code}")
        super().__init__(message)
        self.code = code

    def at(self, path: Path) -> Self:
        """Return the error with a message that begins with ``path``."""
        return type(self)(self.code, f"{path}: {self}")


class UnusableImageError(UnusableInputError):
    """A picture cannot be decoded safely."""

    CODES = (
        ErrorCode.IMAGE_EMPTY,
        ErrorCode.IMAGE_UNSUPPORTED,
        ErrorCode.IMAGE_UNREADABLE,
        ErrorCode.IMAGE_TOO_LARGE,
    )


class DatabaseError(BucklerError):
    """A database cannot be used.

    Attributes:
        passing: Whether the fault may disappear by itself: the database is unreachable, busy or full.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class ModelError(BucklerError):
    """Weights or a checkpoint cannot be loaded or do not fit the network."""


class VerdictError(BucklerError):
    """A release has no valid verdict.

    Attributes:
        reason: One of ``REASONS``, a closed set that also labels metrics.
    """

    REASONS = (
        "missing",
        "malformed",
        "signature",
        "digest",
        "other_model",
        "failed",
        "expired",
        "not_promoted",
        "standing",
    )

    def __init__(self, reason: str, message: str) -> None:
        if reason not in self.REASONS:
            raise ValueError(f"expected one of {self.REASONS}, got {reason!r}")
        super().__init__(message)
        self.reason = reason


class FilesChangedError(VerdictError):
    """Files of a release were changed after they were verified; whole ones may be found at the next attempt."""

    def __init__(self, message: str) -> None:
        super().__init__("digest", message)


class SelfTestError(BucklerError):
    """A loaded model answers its release's reference pictures differently from the gate's evaluation."""


class LimitError(BucklerError):
    """A request exceeds a limit.

    Attributes:
        code: One of ``CODES``; used by the REST API.
        retry_after: Whole seconds to wait before another attempt, at least 1.
    """

    CODES = (ErrorCode.OVERLOADED, ErrorCode.RATE_LIMITED, ErrorCode.TOO_MANY_AT_ONCE)

    def __init__(self, code: ErrorCode, message: str, *, retry_after: int) -> None:
        if code not in self.CODES:
            raise ValueError(f"expected one of {', '.join(self.CODES)}, got {code}")
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class AuditError(BucklerError):
    """The audit log cannot be written or read."""


class JournalError(BucklerError):
    """The journal of signed records is damaged, incomplete or behind what was signed: nothing more is signed."""


class ReceiptError(BucklerError):
    """A receipt is invalid or is about another picture or answer."""


class RegistryError(BucklerError):
    """The model registry lacks the version or cannot be reached."""


class DownloadError(RegistryError):
    """The registry answers, and the release of a version cannot be downloaded all the same.

    Attributes:
        reason: One of ``REASONS``: its source is not allowed, or did not provide the files in time.
    """

    REASONS = ("source", "unavailable")

    def __init__(self, reason: str, message: str) -> None:
        if reason not in self.REASONS:
            raise ValueError(f"expected one of {self.REASONS}, got {reason!r}")
        super().__init__(message)
        self.reason = reason


class PromotionRefusedError(BucklerError):
    """A challenger cannot be promoted; ``failures`` has one sentence per reason."""

    def __init__(self, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__("\n  - ".join([message, *failures]))
        self.failures = tuple(failures)


def faults_of(error: "ValidationError") -> str:
    """Return in one line which fields of a document are wrong, and how."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
