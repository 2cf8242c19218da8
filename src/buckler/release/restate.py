"""Signs a new standing of a registered version: claims of the watch's jobs, renewals of the verdict."""

from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.release import tracking
from buckler.release.assess import Assessor
from buckler.serving import registry
from buckler.trust import standing
from buckler.trust.standing import Claim, Standing


def restate(
    model_name: str,
    number: str,
    key: Ed25519PrivateKey,
    job: str,
    claim: Claim | None,
    *,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Standing:
    """Sign a new standing of a version, store it in the registry and return it.

    Args:
        model_name: Name in the registry.
        number: Number of the version.
        key: Signs; the version's verdict must be signed with the same key.
        job: The job whose claim changes.
        claim: Its new claim on the version; None removes the claim.
        expires_at: Aware time to which the verdict is renewed; default: unchanged.
        now: Aware time; default: the current time.

    Raises:
        RegistryError: No such version, or the registry cannot be reached.
        VerdictError: The version has no authentic verdict.
    """
    with tracking.one_writer():
        assessor = Assessor(model_name, key.public_key(), now or datetime.now(UTC))
        before = assessor.last_standing(registry.version(model_name, number))
        moment = assessor.moment_after([before.moment])
        after = replace(before.claimed(job, claim), moment=moment)
        if expires_at is not None:
            after = replace(after, issued_at=moment, expires_at=expires_at)
        tracking.tag_version(model_name, number, registry.STANDING_TAG, standing.issue(after, key))
        return after
