"""The signer's journal: every record that was signed about one model in one registry, in a chain of lines.

The lines are those of an audit log (`buckler.trust.audit`). Each holds one record, as text:

    {"record": …}    a record that was signed here: it has the next number, and the digest of the line before it
    {"adopted": …}   a record that was found elsewhere; it counts once a recovery, which a person signs, follows it

A record that was signed with a retired key counts if a later one, signed with a key of today, covers it by the digest
of the line before. The retired keys are in ``promotion.retired.pub`` beside the journals; no service knows them.

Without the key nobody can add a record, or change one without breaking the chain. Cutting the end off leaves a valid
chain: `require_complete` compares its number with the highest that others have seen.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from buckler.errors import AuditError, JournalError, VerdictError
from buckler.state import files, paths
from buckler.trust import promotion, recovery, signed, standing
from buckler.trust.audit import START, AuditLog, ChainHead, segments
from buckler.trust.audit_chain import whole_lines
from buckler.trust.keys import load_public_keys
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import PublicKeys
from buckler.trust.recovery import Recovery
from buckler.trust.signed import Record, Records, SignedRecord
from buckler.trust.signing_key import SigningKey
from buckler.trust.standing import Standing

JOURNAL_ENV = "BUCKLER_SIGNING_JOURNAL"
WHAT_TO_DO = (
    "nothing is signed until a person runs `buckler trust recover --by NAME --reason TEXT`; restore the journal from a"
    " backup if there is one"
)
LISTED_MISSING = 100
RETIRED_FILE = "promotion.retired.pub"

_SEGMENT = re.compile(r"\.\d{12}$")  # of the name of a full file


def directory() -> Path:
    """Return the directory of the journals: ``BUCKLER_SIGNING_JOURNAL``, else the project's default."""
    return Path(os.environ.get(JOURNAL_ENV) or paths.SIGNED)


def retired_keys() -> PublicKeys | None:
    """Return the keys that signed promotions once; None if none was retired.

    Raises:
        BucklerError: Their file is damaged.
    """
    path = directory() / RETIRED_FILE
    return load_public_keys(path, named_by=JOURNAL_ENV) if path.exists() else None


def retire_key(key: PublicKeys) -> None:
    """Add ``key`` to the retired ones.

    Raises:
        BucklerError: Their file is damaged.
        OSError: It cannot be written.
    """
    before = retired_keys()
    directory().mkdir(parents=True, exist_ok=True)
    files.write(directory() / RETIRED_FILE, (before.joined(key) if before else key).pem, mode=0o644)


def all_journals(keys: PublicKeys) -> Iterator["Journal"]:
    """Yield the journal of every model and registry for which this machine signed."""
    for path in sorted(directory().glob("*/*.jsonl")):
        if not _SEGMENT.search(path.stem):
            yield Journal(unquote(path.stem), unquote(path.parent.name), keys)


class Journal:
    """The journal of one model in one registry.

    Args:
        model: Name of the model.
        registry: Id of the registry.
        keys: Public keys, of which one must have signed each record.
    """

    def __init__(self, model: str, registry: str, keys: PublicKeys) -> None:
        self.model, self.registry = model, registry
        self._keys = keys
        self.path = directory() / _plain(registry) / f"{_plain(model)}.jsonl"

    def exists(self) -> bool:
        """Return whether there is a file."""
        return self.path.exists() or bool(segments(self.path))

    def read(self) -> Records:
        """Return the records; none without a journal.

        Raises:
            JournalError: A line, a link or a signature is not valid, or a recovery was interrupted.
        """
        return self._read()[0]

    def sign(self, record: PromotionRecord | Standing, key: SigningKey) -> Records:
        """Sign ``record`` with the next number, store it and return all records.

        Raises:
            JournalError: As `read`; or the journal cannot be written, or another process signed meanwhile.
        """
        records, head = self._read()
        placed = replace(record, registry=self.registry, sequence=records.highest + 1, previous=head.digest)
        entry = SignedRecord(placed, _issue(placed, key))
        self._append({"record": entry.text}, head)
        return Records.of([*records.entries, entry])

    def recover(
        self, found: Iterable[SignedRecord], key: SigningKey, *, person: str, reason: str, moment: datetime
    ) -> Records:
        """Take over ``found`` and what is left of the journal, and continue with a signed recovery.

        Args:
            found: Valid records from elsewhere.
            key: Signs the recovery.
            person: Who takes the responsibility.
            reason: Why.
            moment: Aware time of the recovery.

        Raises:
            JournalError: The journal cannot be written.
        """
        salvaged = self._salvaged(moment)
        records = Records.of([*salvaged.entries, *found])
        present, head = self._read()
        for entry in records.entries:
            if entry not in present.entries:
                head = self._append({"adopted": entry.text}, head)
        numbers = {entry.record.sequence for entry in records.entries}
        missing = tuple(number for number in range(1, records.highest) if number not in numbers)[-LISTED_MISSING:]
        record = Recovery(
            self.model, self.registry, moment, person, reason, missing, records.highest + 1, previous=head.digest
        )
        entry = SignedRecord(record, recovery.issue(record, key))
        self._append({"record": entry.text}, head)
        return Records.of([*records.entries, entry])

    def _read(self) -> tuple[Records, ChainHead]:
        entries: list[SignedRecord] = []
        adopted: list[SignedRecord] = []
        head, uncovered, retired = ChainHead(0, START), 0, retired_keys()
        for line, content in self._lines():
            if "adopted" in content:
                entry, current = self._open(content["adopted"], line, retired, earlier=True)
                adopted.append(entry)
                uncovered += not current
            else:
                entry, current = self._open(content.get("record", ""), line, retired)
                entries = self._continued(entries, adopted, entry, head, line)
                adopted = []
                uncovered = 0 if current else uncovered + 1
            head = line
        if uncovered:
            raise self._problem(
                f"its last {uncovered} records were signed with a retired key, and no later one covers them: somebody"
                " uses that key"
            )
        if adopted:
            raise self._problem(f"its last {len(adopted)} lines were taken over by a recovery that was interrupted")
        return Records.of(entries), head

    def _continued(
        self,
        entries: list[SignedRecord],
        adopted: list[SignedRecord],
        entry: SignedRecord,
        head: ChainHead,
        line: ChainHead,
    ) -> list[SignedRecord]:
        """Return the records with ``entry``, which must follow the others."""
        highest = max((each.record.sequence for each in [*entries, *adopted]), default=0)
        number = entry.record.sequence
        recovers = isinstance(entry.record, Recovery)
        follows = number > highest if recovers else number == highest + 1 and not adopted
        if entry.record.previous != head.digest or not follows:
            raise self._problem(
                f"line {line.sequence}: expected record {highest + 1} after {head.digest}, got record {number} after"
                f" {entry.record.previous}"
            )
        return [*entries, *adopted, entry]

    def _open(
        self, text: object, line: ChainHead, retired: PublicKeys | None, *, earlier: bool = False
    ) -> tuple[SignedRecord, bool]:
        """Return a record, and whether a key of today signed it."""
        try:
            return self._signed(str(text), self._keys, earlier=earlier), True
        except VerdictError as error:
            with suppress(VerdictError):
                if retired:
                    return self._signed(str(text), retired, earlier=earlier), False
            raise self._problem(f"line {line.sequence}: {error}") from error

    def _signed(self, text: str, keys: PublicKeys, *, earlier: bool = False) -> SignedRecord:
        return signed.read(text, keys, model=self.model, registry=self.registry, earlier=earlier)

    def _lines(self) -> list[tuple[ChainHead, dict[str, object]]]:
        try:
            return whole_lines(self.path)
        except AuditError as error:
            raise self._problem(str(error)) from error

    def _problem(self, what: str) -> JournalError:
        return JournalError(f"the journal {self.path} is not valid: {what}; {WHAT_TO_DO}")

    def _append(self, line: dict[str, str], after: ChainHead) -> ChainHead:
        try:
            return AuditLog(self.path).append(line, after=after)
        except AuditError as error:
            raise JournalError(f"cannot write the journal {self.path}: {error}") from error

    # --- recovery

    def _salvaged(self, moment: datetime) -> Records:
        """Return every valid record of the journal; move a journal aside that is not valid."""
        with suppress(JournalError):
            return self.read()
        found = []
        for path in [*segments(self.path), self.path]:
            if path.exists():
                found += list(self._valid_records(path))
                path.rename(path.with_name(f"{path.name}.damaged.{moment:%Y%m%dT%H%M%S}"))
        return Records.of(found)

    def _valid_records(self, path: Path) -> Iterator[SignedRecord]:
        for literal in re.findall(rb'"(?:record|adopted)":("(?:[^"\\]|\\.)*")', path.read_bytes()):
            with suppress(ValueError, VerdictError):
                text = json.loads(literal)
                yield self._signed(text, self._keys, earlier=True)


def _issue(record: Record, key: SigningKey) -> str:
    if isinstance(record, PromotionRecord):
        return promotion.issue(record, key)
    if isinstance(record, Standing):
        return standing.issue(record, key)
    return recovery.issue(record, key)


def _plain(name: str) -> str:
    """Return ``name`` as the name of a file."""
    return re.sub(r"^\.", "%2E", quote(name, safe=""))
