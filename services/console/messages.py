"""Plain words for what machines say: how sure, why, what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from buckler.client import ServiceError

# Least probability, and what is said of it.
SURENESS = ((0.95, "very likely"), (0.80, "likely"), (0.60, "rather likely"), (0.0, "undecided, leaning to"))

REFUSALS: Mapping[str, tuple[str, str]] = {
    "image_empty": ("The file is empty", "Choose the picture again."),
    "image_unreadable": ("The picture is damaged or incomplete", "Export or save it again, then try once more."),
    "image_unsupported": ("This is not a picture that can be read", "Choose a JPEG, a PNG or a DICOM file."),
    "image_too_large": ("The picture is too large", "Choose a smaller one."),
    "body_too_large": ("The file is too large", "Choose a smaller one."),
    "no_verified_model": ("No model is cleared to answer", "Somebody with the role operate must promote one."),
    "overloaded": ("The service is busy", "Wait a moment and try again."),
    "rate_limited": ("Too many pictures at once", "Wait a moment and try again."),
    "too_many_at_once": ("Too many pictures at once", "Wait a moment and try again."),
    "query_attack": ("Too many near-identical pictures", "Choose another one, or ask whoever runs the service."),
    "key_missing": ("The service wants a key", "Whoever runs the console sets BUCKLER_CLIENT_KEY."),
    "key_unknown": ("The console's key does not hold", "Whoever runs the console sets another BUCKLER_CLIENT_KEY."),
    "role_forbidden": ("The console's key is for something else", "BUCKLER_CLIENT_KEY must have the role predict."),
    "audit_unavailable": (
        "The answer could not be put on record",
        "So it is not given. Tell whoever runs the service.",
    ),
    "timeout": ("The answer took too long", "Try again later."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, what to do, and the words it came in."""

    title: str
    advice: str
    detail: str = ""


def sureness(probability: float) -> str:
    """Return how likely the label is, in words."""
    return next(text for least, text in SURENESS if probability >= least)


def percent(share: float) -> str:
    """Return ``share`` for people; never 100 % or 0 % of what is not certain."""
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return f"{share:.1%}".replace("%", "\u202f%")


def score(value: float) -> str:
    """Return a detector's score, which may be of any size."""
    return f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0e}"


def moment(when: datetime | float) -> str:
    """Return a time as people read it."""
    aware = datetime.fromtimestamp(when, UTC) if isinstance(when, int | float) else when.astimezone(UTC)
    return f"{aware:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """Return a length of time in the unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def short(digest: str) -> str:
    """Return enough of a digest to tell it from others."""
    kind, _, rest = digest.partition(":")
    return f"{kind}:{rest[:12]}…" if len(rest) > 12 else digest


def refusal(error: Exception) -> Problem:
    """Return what to tell a person about an error that was raised on purpose."""
    detail = str(error)
    if isinstance(error, ServiceError) and error.code in REFUSALS:
        return Problem(*REFUSALS[error.code], detail)
    if isinstance(error, ServiceError):
        return Problem("The service refused", detail.partition(": ")[2] or detail)
    return Problem("That did not work", detail)
