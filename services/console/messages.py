"""Texts for people: probabilities, numbers, times and error messages."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from buckler.client import ServiceError
from buckler.error_codes import KEY_CODES, ErrorCode, Group
from buckler.measurements.results import Rate
from services.console.bodies import TooLargeError

# Lowest probability, and its text.
SURENESS = ((0.95, "very likely"), (0.80, "likely"), (0.60, "probably"), (0.0, "uncertain, slightly in favour of"))

FUTURE_SECONDS = 300  # clocks of two machines differ by less

# The key that the service rejects is the console's own; its user has no part in it.
KEY_ADVICE = "The operator of the console must set BUCKLER_CLIENT_KEY to a valid key with the role predict."


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


def run_time(started_at: float) -> str:
    """Return when a run started, a Unix time; a time in the future is called what it is."""
    text = moment(started_at)
    return f"{text}, in the future: the clock was wrong" if started_at > time.time() + FUTURE_SECONDS else text


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
    if isinstance(error, TooLargeError):
        return Problem("The file is too large", f"Choose one of at most {file_size(error.limit)}.")
    if not isinstance(error, ServiceError):
        return Problem("The request failed", str(error))
    code = ErrorCode.known(error.code)
    if code is None:
        return Problem("The service refused the request", _message(error))
    advice = KEY_ADVICE if code in KEY_CODES else f"{_capitalised(code.advice)}."
    return Problem(_capitalised(code.meaning), advice, _detail(error, code))


def _detail(error: ServiceError, code: ErrorCode) -> str:
    """Return what the list of codes does not say: a specific message, and what the operator needs to find the error."""
    message = _message(error)
    parts = [message] if message != code.message else []
    if code.group is Group.UNAVAILABLE and error.request_id:
        parts.append(f"request id {error.request_id}")
    return ", ".join(parts)


def _message(error: ServiceError) -> str:
    return str(error).removeprefix(f"{error.code}: ")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
