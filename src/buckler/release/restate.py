"""Signs a new standing of a registered version: claims of the watch's jobs, renewals of the verdict."""

from dataclasses import replace
from datetime import datetime

from buckler.errors import RegistryError
from buckler.release.assess import Assessor
from buckler.release.signing import signing
from buckler.release.tracking import WritableRegistry
from buckler.serving import release_cache
from buckler.serving.assessment import RefusedError
from buckler.serving.registry import Registry
from buckler.serving.version import Version
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

    Whatever else the registry lost of what was signed is written again.

    Args:
        registry: Its promotion key signs.
        number: Number of the version.
        job: The job whose claim changes.
        claim: Its new claim on the version; None removes the claim.
        expires_at: Aware time to which the verdict is renewed; default: unchanged.
        now: Aware time; default: the current time.

    Raises:
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: No such version, or the registry cannot be reached.
        RefusedError: The version has no authentic release.
    """
    with signing(registry, now) as signer:
        before = last_standing(signer.registry, signer.registry.version(number))
        after = replace(before.claimed(job, claim), moment=signer.moment)
        if expires_at is not None:
            after = replace(after, issued_at=signer.moment, expires_at=expires_at)
        return signer.state(after)


def last_standing(registry: Registry, version: Version) -> Standing:
    """Return what stands for the release that ``version`` has now: by the journal, else by its verdict alone.

    A version whose files are damaged or gone can be withdrawn all the same if the journal knows its verdict.

    Raises:
        JournalError: The journal is not valid.
        RegistryError: The registry cannot be reached.
        RefusedError: The version has no authentic release.
    """
    assessor = Assessor(registry)
    known = assessor.records().standing(version.version, version.verdict)
    try:
        with release_cache.shared(registry) as cache, cache.opened(version) as release:
            if release.verdict is None:
                release.require()
            found = assessor.of(version, release, promoted=False).standing
    except (RefusedError, RegistryError):
        if known is None:
            raise
        return known
    return found or known or standing.of_verdict(release.require(), model_name=version.model, version=version.version)
