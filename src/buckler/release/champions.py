"""The releases of champions: this machine's verified copies, else downloads.

Call it without the lock: a download may take minutes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from buckler.errors import DataError, VerdictError
from buckler.release.evidence import Evidence, read_evidence
from buckler.serving import release_cache
from buckler.serving.assessment import OpenedRelease, RefusedError
from buckler.serving.registry import Registry
from buckler.serving.version import Version
from buckler.trust.promotion import PromotionRecord
from buckler.trust.verdict import EVIDENCE_DIR


@dataclass(frozen=True, slots=True)
class ChampionsEvidence:
    """The evidence to compare with.

    Attributes:
        evidence: None without any.
        notes: Remarks for the operator.
        missing: Why there is no evidence of a champion; empty if there is, or no champion.
    """

    evidence: Evidence | None
    notes: tuple[str, ...] = ()
    missing: str = ""


def champions_evidence(registry: Registry, champion: PromotionRecord | None) -> ChampionsEvidence:
    """Return the evidence of the champion's verdict, expired or not.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    if champion is None:
        return ChampionsEvidence(None, ("no champion yet: nothing to compare with",))
    which = f"the champion, version {champion.version}"
    try:
        with _copy_or_download(registry, champion) as release:
            champion.check(release.require())  # authentic is enough, even if it cannot be loaded here
            notes = tuple(f"{which}: {reason}" for reason in release.reasons)
            return ChampionsEvidence(read_evidence(release.files / EVIDENCE_DIR), notes)
    except (RefusedError, DataError, VerdictError) as error:
        return ChampionsEvidence(None, missing=f"not compared with {which}, whose evidence is not available: {error}")


@contextmanager
def _copy_or_download(registry: Registry, record: PromotionRecord) -> Iterator[OpenedRelease]:
    """Yield the release that was promoted: this machine's verified copy, else a download.

    Whoever can delete the files of a champion can thereby prevent neither a comparison with it nor a roll-back to it.
    """
    with release_cache.shared(registry) as cache, cache.lent(record.verdict) as copy:
        if copy is not None:
            yield copy
            return
    with _downloaded(registry, registry.version(record.version)) as release:
        yield release


def release_of(registry: Registry, version: Version, record: PromotionRecord) -> AbstractContextManager[OpenedRelease]:
    """Return the release of a former champion; a copy does not tell what a number that was registered again names."""
    if version.verdict == record.verdict:
        return _copy_or_download(registry, record)
    return _downloaded(registry, version)


@contextmanager
def _downloaded(registry: Registry, version: Version) -> Iterator[OpenedRelease]:
    with release_cache.shared(registry) as cache, cache.opened(version, fresh=True) as release:
        yield release
