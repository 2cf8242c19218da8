"""Texts for people: probabilities, numbers, times and error messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from buckler.client import ServiceError
from buckler.measurements.results import Rate

# Lowest probability, and its text.
SURENESS = ((0.95, "very likely"), (0.80, "likely"), (0.60, "probably"), (0.0, "uncertain, slightly in favour of"))

REFUSALS: Mapping[str, tuple[str, str]] = {
    "image_empty": ("The file is empty", "Choose the picture again."),
    "image_unreadable": ("The picture is damaged or incomplete", "Export or save it again, then try once more."),
    "image_unsupported": ("This is not a picture that can be read", "Choose a JPEG, a PNG or a DICOM file."),
    "image_too_large": ("The picture is too large", "Choose a smaller one."),
    "body_too_large": ("The file is too large", "Choose a smaller one."),
    "no_verified_model": ("No approved model is loaded", "A user with the role operate must promote one."),
    "model_withdrawn": (
        "The model was withdrawn",
        "A later check of the model failed, so it gives no answers. A user with the role operate must roll back or"
        " promote another model.",
    ),
    "overloaded": ("The service is busy", "Wait a moment and try again."),
    "rate_limited": ("Too many pictures in a short time", "Wait a moment and try again."),
    "too_many_at_once": ("Too many pictures at the same time", "Wait a moment and try again."),
    "query_attack": ("Too many near-identical pictures", "Choose another picture, or ask the operator of the service."),
    "key_missing": ("The service requires a key", "The operator of the console must set BUCKLER_CLIENT_KEY."),
    "key_unknown": (
        "The key of the console is unknown or revoked",
        "The operator must replace BUCKLER_CLIENT_KEY.",
    ),
    "role_forbidden": ("The key of the console has the wrong role", "BUCKLER_CLIENT_KEY needs the role predict."),
    "audit_unavailable": (
        "The answer could not be recorded",
        "It is therefore withheld. Report this to the operator of the service.",
    ),
    "timeout": ("The answer took too long", "Try again later."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An error for people: title, what to do, and the original message."""

    title: str
    advice: str
    detail: str = ""


def sureness(probability: float) -> str:
    """Return a probability in words, to be followed by the label."""
    return next(text for least, text in SURENESS if probability >= least)


def percent(share: float) -> str:
    """Return ``share`` as a percentage; an uncertain one never rounds to 100 % or 0 %."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return f"{share:.1%}".replace("%", "\u202f%")


def score(value: float) -> str:
    """Return a detector score with one decimal, or in scientific notation if it is large."""
    return f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}"


def interval(rate: Rate) -> str:
    """Return the interval of a rate."""
    return f"{percent(rate.low)} to {percent(rate.high)}"


def file_size(size: int) -> str:
    """Return a number of bytes, rounded down, in MB or kB."""
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1000} kB"


def moment(when: datetime | float | str) -> str:
    """Return date and time in UTC, to the minute.

    Args:
        when: An aware time, a Unix time, or an aware ISO 8601 time.
    """
    if isinstance(when, int | float):
        aware = datetime.fromtimestamp(when, UTC)
    else:
        aware = (datetime.fromisoformat(when) if isinstance(when, str) else when).astimezone(UTC)
    return f"{aware:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Return a duration in days, hours, minutes or seconds."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def short(digest: str) -> str:
    """Return a digest shortened to 12 digits."""
    kind, _, rest = digest.partition(":")
    return f"{kind}:{rest[:12]}…" if len(rest) > 12 else digest


def refusal(error: Exception) -> Problem:
    """Return the text for an expected error."""
    detail = str(error)
    if isinstance(error, ServiceError) and error.code in REFUSALS:
        return Problem(*REFUSALS[error.code], detail)
    if isinstance(error, ServiceError):
        return Problem("The service refused the request", detail.partition(": ")[2] or detail)
    return Problem("The request failed", detail)
