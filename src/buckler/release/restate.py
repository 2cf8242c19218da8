"""Signs a new standing of a registered version: claims of the watch's jobs, renewals of the verdict."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime

from buckler.errors import JournalError
from buckler.release.assess import Assessor
from buckler.release.signing import signing
from buckler.release.tracking import WritableRegistry
from buckler.serving import release_cache
from buckler.serving.assessment import OpenedRelease
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
    bound = registry.signing()
    version = bound.version(number)
    with _verified(bound, version) as release, signing(registry, now) as signer:
        assessor = Assessor(signer.registry, signer.moment, signer.records)
        before = _last_standing(assessor, signer.unchanged(version), release)
        after = replace(before.claimed(job, claim), moment=signer.moment)
        if expires_at is not None:
            after = replace(after, issued_at=signer.moment, expires_at=expires_at)
        return signer.state(after)


def last_standing(registry: Registry, version: Version) -> Standing:
    """Return what stands for the release that ``version`` has now: by the journal, else by its verdict alone.

    Raises:
        JournalError: The journal is not valid.
        RegistryError: The registry cannot be reached.
        RefusedError: The version has no authentic release.
    """
    with _verified(registry, version) as release:
        return _last_standing(Assessor(registry), version, release)


@contextmanager
def _verified(registry: Registry, version: Version) -> Iterator[OpenedRelease | None]:
    """Yield the release of ``version``; None if the journal has a standing of it, so that nothing need be downloaded.

    No lock is held: a withdrawal waits for no download if the journal knows the version, or there is a copy of it.
    """
    records = Assessor(registry).records()
    if records.standing(version.version, version.verdict) is not None:
        yield None
        return
    promoted = next((each for each in reversed(records.history) if each.version == version.version), None)
    with release_cache.shared(registry) as cache, ExitStack() as stack:
        release = stack.enter_context(cache.opened(version))
        if not release.downloaded and promoted is not None:
            # Whoever changed the version's files and tags must not prevent that what was promoted is withdrawn.
            release = stack.enter_context(cache.lent(promoted.verdict)) or release
        yield release


def _last_standing(assessor: Assessor, version: Version, release: OpenedRelease | None) -> Standing:
    known = assessor.records().standing(version.version, version.verdict)
    if known is not None:
        return known
    if release is None:
        raise JournalError(f"the journal has lost the standing of {version} meanwhile; try again")
    verdict = release.verdict or release.require()  # damaged files can be withdrawn all the same
    found = assessor.of(version, release, promoted=False).standing
    return found or standing.of_verdict(verdict, model_name=version.model, version=version.version)
