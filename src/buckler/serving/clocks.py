"""What was signed while a clock was ahead: it bears a time that lies in the future, and a verdict expires too late."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from buckler.serving.assessment import Assessment

TOLERANCE = timedelta(minutes=5)  # clocks of two machines differ


def from_future(found: Assessment, now: datetime) -> tuple[str, ...]:
    """Return a sentence for each signed document of a version whose time lies in the future.

    They are no reasons against the version: people must find out which clock was wrong, that of then or that of now.

    Args:
        found: The version.
        now: The current time, aware.
    """
    return tuple(
        f"{what} is from {moment.isoformat()}, which lies in the future: a clock was or is wrong; {advice}"
        for what, moment, advice in _signed(found)
        if moment > now + TOLERANCE
    )


def _signed(found: Assessment) -> Iterator[tuple[str, datetime, str]]:
    proof, standing = found.verdict, found.standing
    renew = "it expires too late: `buckler watch --once reevaluate` renews it from now on if the model still passes"
    if proof is not None and standing is not None:
        if standing.issued_at == proof.issued_at:
            yield f"the verdict {proof.id}", proof.issued_at, renew
        else:
            yield f"the renewal of the verdict {proof.id}", standing.issued_at, renew
        if standing.claims:
            jobs = ", ".join(sorted(standing.claims))
            yield (
                f"the claim of {jobs}",
                standing.moment,
                f"run it again: `buckler watch --once {min(standing.claims)}`",
            )
    if found.promotion is not None:
        advice = "services compare numbers of records, not times: note when it was"
        yield f"the promotion of version {found.version.version}", found.promotion.moment, advice
