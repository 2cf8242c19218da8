"""The signed records about a model's versions, of every kind, and what follows from them."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from buckler.errors import VerdictError
from buckler.trust import promotion, recovery, standing
from buckler.trust.envelope import parse_object, shown
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import PublicKeys
from buckler.trust.recovery import Recovery
from buckler.trust.standing import Standing

Record = PromotionRecord | Standing | Recovery

_DOCUMENTS = (promotion.DOCUMENT, standing.DOCUMENT, recovery.DOCUMENT)


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record whose signature is valid, and the text that was signed, as registry and journal store it."""

    record: Record
    text: str

    @property
    def order(self) -> tuple[int, datetime]:
        """Of two records the one with the higher order was signed later; those of version 1 have a time only."""
        return self.record.sequence, self.record.moment


def read(text: str, keys: PublicKeys, *, model: str, registry: str, earlier: bool = False) -> SignedRecord:
    """Return the record in ``text`` if one of ``keys`` signed it for this model in this registry.

    Args:
        text: A promotion, standing or recovery.
        keys: Public keys, of which one must have signed it.
        model: Name of the model.
        registry: Id of the registry.
        earlier: Whether records of version 1 count, which name no registry.

    Raises:
        VerdictError: ``malformed`` or ``signature``.
    """
    sealed = parse_object(text, "the record")
    kind = _kind(sealed)
    found = next((each for each in _DOCUMENTS if f":{each.kind}:" in kind or f".{each.kind}+" in kind), None)
    if found is None:
        raise VerdictError("malformed", f"expected a promotion, standing or recovery, got {shown(kind)}")
    record: Record = found.open(sealed, keys).predicate
    expected = (registry, "") if earlier else (registry,)
    if record.model != model or record.registry not in expected:
        raise VerdictError(
            "malformed",
            f"expected a record about {model} in the registry {registry!r}, got one about {record.model} in"
            f" {record.registry!r}",
        )
    return SignedRecord(record, text)


def _kind(sealed: dict[str, object]) -> str:
    """Return what the envelope says that it contains; the document verifies it."""
    try:
        statement = json.loads(base64.b64decode(str(sealed["payload"])))
        return f"{sealed['payloadType']} {statement.get('predicateType')}"
    except (KeyError, AttributeError, ValueError, RecursionError, binascii.Error):
        return "something else"


def number(text: str, keys: PublicKeys, *, model: str, registry: str) -> int:
    """Return the number of the record in ``text``; 0 for a text that proves nothing."""
    try:
        return read(text, keys, model=model, registry=registry).record.sequence if text else 0
    except VerdictError:
        return 0


@dataclass(frozen=True, slots=True)
class Records:
    """The valid records about one model, in the order in which they were signed."""

    entries: tuple[SignedRecord, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[SignedRecord]) -> "Records":
        """Return ``entries`` in order, each text once."""
        return cls(tuple(sorted({entry.text: entry for entry in entries}.values(), key=lambda entry: entry.order)))

    @property
    def last(self) -> SignedRecord | None:
        """The record with the highest number; None without one."""
        return self.entries[-1] if self.entries else None

    @property
    def highest(self) -> int:
        """The highest number; 0 without records."""
        return self.last.record.sequence if self.last else 0

    @property
    def last_promotion(self) -> SignedRecord | None:
        """The latest promotion; None without one."""
        return next((each for each in reversed(self.entries) if isinstance(each.record, PromotionRecord)), None)

    @property
    def champion(self) -> PromotionRecord | None:
        """The latest promotion; None without one."""
        return self.history[-1] if self.history else None

    @property
    def history(self) -> tuple[PromotionRecord, ...]:
        """The champions that a roll-back can reach, in order, and the current one at the end.

        Another promotion of a version moves it to the end; a roll-back drops the versions after its target.
        """
        found: list[PromotionRecord] = []
        for record in (each.record for each in self.entries):
            if not isinstance(record, PromotionRecord):
                continue
            places = [place for place, other in enumerate(found) if _identity(other) == _identity(record)]
            if record.rolled_back:
                found = found[: places[0]] if places else found[:-1]
            elif places:
                del found[places[0]]
            found.append(record)
        return tuple(found)

    def standing(self, version: str, verdict: str) -> Standing | None:
        """Return the latest standing of a version with this verdict; None without one."""
        entry = self.latest(Standing, version, verdict)
        return entry.record if entry and isinstance(entry.record, Standing) else None

    def latest(self, kind: type[PromotionRecord] | type[Standing], version: str, verdict: str) -> SignedRecord | None:
        """Return the latest record of a kind about a version with this verdict; None without one."""
        for entry in reversed(self.entries):
            record = entry.record
            if isinstance(record, Recovery) or not isinstance(record, kind):
                continue
            if (record.version, record.verdict) == (version, verdict):
                return entry
        return None


def _identity(record: PromotionRecord) -> tuple[str, str, str]:
    return record.version, record.digest, record.verdict
