"""Signs promotions and standings: first into the journal, then into the registry.

What is signed follows from the journal alone. The registry only provides releases, and witnesses of what was signed:
if it knows a record that the journal lacks, the journal was shortened, or another machine signs for this registry.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from buckler.errors import BucklerError, JournalError, RegistryError, VerdictError
from buckler.release import tracking
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG, Registry
from buckler.serving.version import Version
from buckler.state import paths
from buckler.trust import signed
from buckler.trust.head import KeptHead
from buckler.trust.journal import WHAT_TO_DO, Journal
from buckler.trust.promotion import PromotionRecord
from buckler.trust.signed import Records, SignedRecord
from buckler.trust.standing import Standing
from buckler.trust.verdict import Verdict

log = logging.getLogger(__name__)


class Signer:
    """Signs for one model while it holds the lock; `signing` makes one.

    Attributes:
        registry: The model's entries, with its keys.
        records: Everything that was signed so far.
    """

    def __init__(self, registry: WritableRegistry, journal: Journal, records: Records, now: datetime) -> None:
        self.registry, self.records = registry, records
        self._journal, self._now = journal, now

    @property
    def moment(self) -> datetime:
        """Aware time of what is signed."""
        return self._now

    def unchanged(self, version: Version) -> Version:
        """Return the registry's entry of a version now, whose release was verified before the lock was taken.

        Raises:
            RegistryError: It names another release now, or the registry cannot be reached.
        """
        now = self.registry.version(version.version)
        if (now.digest, now.verdict) != (version.digest, version.verdict):
            raise RegistryError(
                f"{now} was registered again meanwhile, with the verdict {now.verdict or 'none'}; try again"
            )
        return now

    def promote(
        self, version: Version, verdict: Verdict, *, rolled_back: bool = False, approvals: str = ""
    ) -> PromotionRecord:
        """Sign that ``verdict`` allowed a promotion of ``version``, then move the alias.

        Args:
            version: Its entry in the registry.
            verdict: Its verdict.
            rolled_back: Whether it goes back to an earlier champion.
            approvals: Envelope of the approvals; empty without any.

        Raises:
            JournalError: The journal cannot be written.
            RegistryError: The registry cannot be reached.
        """
        model, number = version.model, version.version
        record = PromotionRecord(
            model,
            number,
            verdict.subject_digest,
            verdict.id,
            self._now,
            rolled_back=rolled_back,
            approvals=approvals,
        )
        self._sign(record)
        text = self._last_text()
        self.registry.tag(number, PROMOTION_TAG, text)
        if not version.latest:  # nothing is replaced: a service may load it as soon as the alias is set
            self.registry.tag_model(PROMOTION_TAG, text)
        # The alias before the model's record: a process killed in between leaves the old champion, or the new one.
        self.registry.set_alias(CHAMPION, number)
        self.write_back()
        return record

    def state(self, standing: Standing) -> Standing:
        """Sign a new standing, store it in the registry and return it.

        Raises:
            JournalError: The journal cannot be written.
            RegistryError: The registry cannot be reached.
        """
        self._sign(standing)
        self.write_back()
        found = self.records.standing(standing.version, standing.verdict)
        return found or standing

    def finish(self) -> None:
        """Repeat the last step if the registry ends with the record before it: the process was killed in between.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        entries, signed_records = self.registry.versions(), self.records.entries
        before = signed_records[-2].text if len(signed_records) > 1 else ""
        if not signed_records or not entries or entries[0].head != before:
            return
        record = signed_records[-1].record
        if isinstance(record, PromotionRecord) and (record.version, record.verdict) in {
            (entry.version, entry.verdict) for entry in entries
        }:
            self.registry.set_alias(CHAMPION, record.version)
        self.write_back()

    def write_back(self) -> None:
        """Write every record that the registry lacks, except that the alias stays.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        entries = self.registry.versions()
        for entry in entries:
            for tag, expected, stored in _expected_tags(self.records, entry):
                if stored != expected.text:
                    self.registry.tag(entry.version, tag, expected.text)
        last, promotion = self.records.last, self.records.last_promotion
        if entries and promotion and entries[0].latest != promotion.text:
            self.registry.tag_model(PROMOTION_TAG, promotion.text)
        if entries and last and entries[0].head != last.text:
            self.registry.tag_model(HEAD_TAG, last.text)
        keep_head(self.registry, last.text if last else "")

    def _sign(self, record: PromotionRecord | Standing) -> None:
        self.records = self._journal.sign(record, self.registry.keys.private())

    def _last_text(self) -> str:
        return self.records.last.text if self.records.last else ""


@contextmanager
def signing(registry: WritableRegistry, now: datetime | None = None) -> Iterator[Signer]:
    """Yield a signer; one process of this machine signs at a time.

    Download nothing meanwhile: a withdrawal waits.

    Args:
        registry: Its private key signs.
        now: Aware time; default: the current time.

    Raises:
        BucklerError: There is no signing key.
        JournalError: The journal is not valid, or behind what was signed.
        RegistryError: The registry cannot be reached.
    """
    with tracking.one_writer():
        bound = registry.signing()
        journal = journal_of(bound)
        records = journal.read()
        require_complete(records, shown(bound), journal)
        signer = Signer(bound, journal, records, now or datetime.now(UTC))
        signer.finish()
        yield signer


def journal_of(registry: Registry) -> Journal:
    """Return the journal of the registry's model."""
    return Journal(registry.model, registry.id, registry.keys.public().promotion)


def shown(registry: Registry) -> Records:
    """Return the valid records in the registry and the highest that the watch has seen, of all versions of the product.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    keys, found = registry.keys.public().promotion, []
    for entry in registry.versions():
        for text in (entry.promotion, entry.standing, entry.latest, entry.head):
            with suppress(VerdictError):
                found.append(signed.read(text, keys, model=registry.model, registry=registry.id, earlier=True))
    kept = kept_head(registry).record(keys)
    return Records.of([*found, kept] if kept else found)


def require_complete(records: Records, found: Records, journal: Journal) -> None:
    """Check that the journal has every record that was found elsewhere.

    Raises:
        JournalError: It lacks one: it was lost or shortened, or another journal signs for this registry.
    """
    unknown = [entry.record.sequence for entry in found.entries if entry not in records.entries]
    if not records.entries and unknown and not any(unknown):
        raise JournalError(
            f"the journal {journal.path} is empty, and the registry {journal.registry!r} has promotions or standings of"
            f" an earlier version of Buckler: take them over with `buckler trust recover --by NAME --reason upgrade`"
        )
    if numbers := sorted({number for number in unknown if number}):
        raise JournalError(
            f"the journal {journal.path} ends with record {records.highest} and lacks {_listed(numbers)}, which"
            " registry or watch have: it was lost or shortened, or another machine signs for the registry"
            f" {journal.registry!r}; {WHAT_TO_DO}"
        )


def is_complete(journal: Journal, found: Records) -> bool:
    """Return whether the journal is valid and has every record of ``found``."""
    try:
        require_complete(journal.read(), found, journal)
    except JournalError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was lost, one sentence each.

    Attributes:
        registry: What the registry lacks of what was signed or seen before.
        journal: Why the journal is not complete; empty where nobody signs.
    """

    registry: tuple[str, ...]
    journal: tuple[str, ...]


def compare(registry: Registry) -> Comparison:
    """Compare the registry with the journal of this machine, if there is one, and with the highest record seen.

    The highest record of the registry is kept afterwards.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    journal, keys = journal_of(registry), registry.keys.public().promotion
    found, entries = shown(registry), registry.versions()
    head = entries[0].head if entries else ""
    number, seen = (
        signed.number(head, keys, model=registry.model, registry=registry.id),
        kept_head(registry).highest(keys),
    )
    missing = (f"the registry {registry.id!r} ends with record {number}, record {seen} was seen before",)
    keep_head(registry, head)
    behind = missing if number < seen else ()
    if not journal.exists() and not _can_sign(registry):
        return Comparison(behind, ())
    try:
        records = journal.read()
        require_complete(records, found, journal)
    except JournalError as error:
        return Comparison(behind, (str(error),))
    return Comparison(lost(records, registry) or behind, ())


def _can_sign(registry: Registry) -> bool:
    try:
        registry.keys.private()
    except BucklerError:
        return False
    return True


def _listed(numbers: list[int]) -> str:
    shown_numbers = ", ".join(map(str, numbers[-5:]))
    return f"record {shown_numbers}" if len(numbers) == 1 else f"records {shown_numbers}"


def lost(records: Records, registry: Registry) -> tuple[str, ...]:
    """Return what the registry lacks of what was signed, one sentence each.

    Raises:
        RegistryError: The registry cannot be reached.
    """
    champion = records.champion
    if champion is None:
        return ()
    entries, found = registry.versions(), []
    alias = registry.by_alias(CHAMPION)
    if alias is None or alias.version != champion.version:
        now = f"version {alias.version}" if alias else "none"
        found.append(f"the champion is {now} instead of version {champion.version}")
    known = {entry.version: entry for entry in entries}
    for version, verdict in sorted({(each.version, each.verdict) for each in records.history}):
        entry = known.get(version)
        if entry is None or entry.verdict != verdict:
            now = f"has the verdict {entry.verdict or 'none'}" if entry else "is gone"
            found.append(f"version {version} {now} instead of {verdict}")
    for entry in entries:
        for tag, expected, stored in _expected_tags(records, entry):
            if stored != expected.text:
                found.append(f"{entry} lacks record {expected.record.sequence} (tag {tag})")
    promotion, last = records.last_promotion, records.last
    if entries and promotion and entries[0].latest != promotion.text:
        found.append(f"the model lacks record {promotion.record.sequence} (tag {PROMOTION_TAG})")
    if entries and last and entries[0].head != last.text:
        found.append(f"the model lacks record {last.record.sequence} (tag {HEAD_TAG})")
    return tuple(f"the registry {registry.id!r}: {each}" for each in found)


def _expected_tags(records: Records, entry: Version) -> Iterator[tuple[str, SignedRecord, str]]:
    """Yield tag, the record that it must have, and its text now, for each record about ``entry``."""
    if promotion := records.latest(PromotionRecord, entry.version, entry.verdict):
        yield PROMOTION_TAG, promotion, entry.promotion
    if standing := records.latest(Standing, entry.version, entry.verdict):
        yield STANDING_TAG, standing, entry.standing


def kept_head(registry: Registry) -> KeptHead:
    """Return the highest record that the watch of this machine has seen."""
    journal = journal_of(registry).path
    path = paths.SIGNED_HEADS / journal.parent.name / f"{journal.stem}.json"
    return KeptHead(path, model=registry.model, registry=registry.id)


def keep_head(registry: Registry, text: str) -> None:
    """Keep the record in ``text`` as the highest that was seen, if it is."""
    try:
        kept_head(registry).keep(text, registry.keys.public().promotion)
    except OSError as error:
        log.warning("cannot store the highest signed record that was seen: %s", error)
