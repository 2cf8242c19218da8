"""The signed record of a recovery: a named person continues the journal after records were lost."""

import json
from dataclasses import dataclass

from buckler.trust.audit import START
from buckler.trust.document import RecordNumber, SignedDocument, Subjects, Time
from buckler.trust.signing_key import SigningKey


@dataclass(frozen=True, slots=True)
class Recovery:
    """The continuation of a model's journal by a person.

    Attributes:
        model: Name of the model in the registry.
        registry: Id of the registry.
        moment: Aware time of the recovery.
        person: Who took the responsibility.
        reason: Why, in one sentence.
        missing: Numbers below ``sequence`` of which no record was found; at most the last 100.
        sequence: Number of this record in the journal; above every number that was seen anywhere.
        previous: ``sha256:…`` of the journal's line before this record; covers the records that were taken over.
    """

    model: str
    registry: str
    moment: Time
    person: str
    reason: str
    missing: tuple[int, ...] = ()
    sequence: RecordNumber = 0
    previous: str = START

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` is the line before this record."""
        return subjects == {self.model: self.previous}


DOCUMENT = SignedDocument("recovery", Recovery)


def issue(record: Recovery, key: SigningKey) -> str:
    """Return the signed record as text, in the form that the registry stores."""
    return json.dumps(DOCUMENT.sign(record, {record.model: record.previous}, key), separators=(",", ":"))
