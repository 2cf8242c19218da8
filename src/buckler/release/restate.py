"""Signs a new standing of a registered version: claims of the watch's jobs, renewals of the verdict."""

from dataclasses import replace
from datetime import UTC, datetime

from buckler.release import tracking
from buckler.release.assess import Assessor
from buckler.release.tracking import WritableRegistry
from buckler.serving.registry import STANDING_TAG
from buckler.trust import standing
from buckler.trust.standing import Claim, Standing


def restate(
    registry: WritableRegistry,
    number: str,
    job: str,
    claim: Claim | None,
    *,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Standing:
    """Sign a new standing of a version, store it in the registry and return it.

    Args:
        registry: Its private key signs; the version's verdict must be signed with the same key.
        number: Number of the version.
        job: The job whose claim changes.
        claim: Its new claim on the version; None removes the claim.
        expires_at: Aware time to which the verdict is renewed; default: unchanged.
        now: Aware time; default: the current time.

    Raises:
        RegistryError: No such version, or the registry cannot be reached.
        RefusedError: The version has no authentic release.
    """
    with tracking.one_writer():
        signing = registry.signing()
        assessor = Assessor(signing, now or datetime.now(UTC))
        before = assessor.last_standing(signing.version(number))
        moment = assessor.moment_after([before.moment])
        after = replace(before.claimed(job, claim), moment=moment)
        if expires_at is not None:
            after = replace(after, issued_at=moment, expires_at=expires_at)
        signing.tag(number, STANDING_TAG, standing.issue(after, signing.keys.private()))
        return after
