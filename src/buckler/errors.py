"""Every error Buckler raises on purpose: what was expected, what came, what to do."""

from collections.abc import Sequence


class BucklerError(Exception):
    """Base of all errors whose message is meant for the person who caused them."""


class ParamsError(BucklerError):
    """A section of params.yaml misses a key, holds an unknown one or a wrong value."""


class InputRangeError(BucklerError, ValueError):
    """Pixels lie outside 0..1."""


class DataError(BucklerError):
    """A data source, manifest or split does not hold what it must."""


class UnusableImageError(BucklerError):
    """A picture cannot be decoded safely.

    Attributes:
        code: One of ``CODES``; machine readable, stable, used by the REST API and by quarantine.
    """

    CODES = ("image_empty", "image_unsupported", "image_unreadable", "image_too_large")

    def __init__(self, code: str, message: str) -> None:
        if code not in self.CODES:
            raise ValueError(f"expected one of {self.CODES}, got {code!r}")
        super().__init__(message)
        self.code = code


class ModelError(BucklerError):
    """Weights or a checkpoint cannot be had, or do not fit the network."""


class VerdictError(BucklerError):
    """A release does not carry a verdict that holds.

    Attributes:
        reason: One of ``REASONS``; a closed set, so that it can label a metric.
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
        "superseded",
        "standing",
    )

    def __init__(self, reason: str, message: str) -> None:
        if reason not in self.REASONS:
            raise ValueError(f"expected one of {self.REASONS}, got {reason!r}")
        super().__init__(message)
        self.reason = reason


class SelfTestError(BucklerError):
    """A loaded model does not answer the reference pictures of its release as it did when it was judged."""


class LimitError(BucklerError):
    """A request comes while there is no place for it.

    Attributes:
        code: One of ``CODES``; machine readable, stable, used by the REST API.
        retry_after: Whole seconds, at least 1, after which another try may do better.
    """

    CODES = ("overloaded", "rate_limited", "too_many_at_once")

    def __init__(self, code: str, message: str, *, retry_after: int) -> None:
        if code not in self.CODES:
            raise ValueError(f"expected one of {self.CODES}, got {code!r}")
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class AuditError(BucklerError):
    """The audit log cannot be written or read."""


class ReceiptError(BucklerError):
    """A receipt of the service does not hold, or is about something else."""


class RegistryError(BucklerError):
    """The model registry lacks what was asked for, or cannot be reached."""


class PromotionRefusedError(BucklerError):
    """A challenger may not become champion; ``failures`` says why, one sentence each."""

    def __init__(self, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__("\n  - ".join([message, *failures]))
        self.failures = tuple(failures)
