"""Continues the signer's journal after records were lost, in the name of a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from buckler.errors import BucklerError
from buckler.release import signing, tracking
from buckler.release.signing import Signer
from buckler.release.tracking import WritableRegistry
from buckler.trust.recovery import Recovery
from buckler.trust.signed import Records
from buckler.trust.standing import HOLDS, Standing


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of a recovery.

    Attributes:
        journal: Its file.
        records: Everything that counts from now on.
        lines: What that is, for the person who has to check it.
    """

    journal: Path
    records: Records
    lines: tuple[str, ...]


def recover(registry: WritableRegistry, *, person: str, reason: str, now: datetime | None = None) -> Recovered:
    """Take over every valid record that journal, registry and watch still have, and sign the recovery.

    Args:
        registry: Its promotion key signs.
        person: Who takes the responsibility.
        reason: Why.
        now: Aware time; default: the current time.

    Raises:
        BucklerError: Person or reason is missing, or nothing was lost.
        JournalError: The journal cannot be written.
        RegistryError: The registry cannot be reached.
    """
    if not person.strip() or not reason.strip():
        raise BucklerError("expected a name and a reason, got an empty text; both are signed")
    with tracking.one_writer():
        bound, moment = registry.signing(), now or datetime.now(UTC)
        journal, found = signing.journal_of(bound), signing.shown(bound)
        if signing.is_complete(journal, found):
            raise BucklerError(f"the journal {journal.path} is complete: nothing to recover")
        records = journal.recover(found.entries, bound.keys.private(), person=person, reason=reason, moment=moment)
        Signer(bound, journal, records, moment).write_back()
    return Recovered(journal.path, records, tuple(lines(records)))


def lines(records: Records) -> Iterator[str]:
    """Yield what counts, one line each: champion, earlier ones, withdrawals, and what a recovery misses."""
    champion = records.champion
    yield f"champion   {f'version {champion.version}, record {champion.sequence}' if champion else 'none'}"
    for record in records.history[:-1]:
        yield f"before     version {record.version}, record {record.sequence}"
    for version, verdict in sorted({(each.version, each.verdict) for each in _standings(records)}):
        found = records.standing(version, verdict)
        if found and found.state != HOLDS:
            yield f"{found.state.ljust(10)} version {version}: {'; '.join(found.reasons)}"
    last = records.last.record if records.last else None
    if isinstance(last, Recovery) and last.missing:
        yield (
            f"missing    records {', '.join(map(str, last.missing))}: nobody has them; check whether one of them"
            " withdrew a version, and withdraw it again"
        )


def _standings(records: Records) -> Iterator[Standing]:
    for entry in records.entries:
        if isinstance(entry.record, Standing):
            yield entry.record
