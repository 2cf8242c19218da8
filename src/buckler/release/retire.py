"""Retires a key: nothing that it signed counts any more, except what a key of today signed again or covers."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from buckler.errors import BucklerError, VerdictError
from buckler.release import signing, tracking
from buckler.release.assess import Assessor
from buckler.release.signing import Signer
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import ReasonCode
from buckler.trust import journal, rotation, signed
from buckler.trust.journal import Journal
from buckler.trust.keys import PROMOTIONS, VERDICTS
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import PublicKeys
from buckler.trust.recovery import Recovery
from buckler.trust.rotation import Pair
from buckler.trust.signed import Records
from buckler.trust.standing import Standing

Signable = PromotionRecord | Standing


@dataclass(frozen=True, slots=True)
class Retired:
    """The result of retiring a key.

    Attributes:
        key: Its id.
        pair: The files of its role, as they are now.
        records: What was signed for the registry, for the person who has to check it; None for a key of verdicts.
    """

    key: str
    pair: Pair
    records: Records | None = None


def retire_verdict_key(registry: WritableRegistry, given: str, *, stolen: bool = False) -> Retired:
    """Trust a key of verdicts no more.

    Args:
        registry: Its champion must not need the key.
        given: Id of the key, or its first digits.
        stolen: Retire it although the champion needs it: the live model keeps answering until it is replaced.

    Raises:
        BucklerError: Nobody trusts such a key, it signs, or the champion needs it.
        RegistryError: The registry cannot be reached.
    """
    pair = Pair.of(VERDICTS)
    key = pair.find(given)
    rotation.check_droppable(pair, key)
    if not stolen:
        _require_unneeded(registry, key)
    return Retired(key, rotation.drop(VERDICTS, key))


def _require_unneeded(registry: WritableRegistry, key: str) -> None:
    trusted = registry.keys.public()
    without = replace(registry.keys, trusted=replace(trusted, verdict=trusted.verdict.without(key)))
    champion = Assessor(replace(registry, keys=without)).champion()
    if champion and ReasonCode.SIGNATURE in champion.codes:
        raise BucklerError(
            f"{key} signed the verdict of the champion, version {champion.version.version}: a service that restarts"
            " would have no model; run `dvc repro`, `buckler promote`, then retire the key (--stolen: at once)"
        )


def retire_promotion_key(registry: WritableRegistry, given: str, *, now: datetime | None = None) -> Retired:
    """Trust a key of promotions no more, after the key of today has signed what counts again.

    That is the champion's promotion and every standing, in each journal of this machine. It can be repeated after an
    interruption, also when the registry could not be reached.

    Args:
        registry: What was signed for it is written there.
        given: Id of the key, or its first digits.
        now: Aware time; default: the current time.

    Raises:
        BucklerError: Nobody trusts such a key, or it signs.
        JournalError: A journal is not valid, or cannot be written.
        RegistryError: The registry cannot be reached.
    """
    with tracking.one_writer():
        pair, moment = Pair.of(PROMOTIONS), now or datetime.now(UTC)
        key = _retired_before(given) or pair.find(given)
        if key in pair.trusted.ids:
            rotation.check_droppable(pair, key)
            _sign_again(registry.signing(), key, moment)
            journal.retire_key(pair.trusted.only(key))
            pair = rotation.drop(PROMOTIONS, key)
        return Retired(key, pair, _write_back(registry.signing(), moment))


def _retired_before(given: str) -> str | None:
    """Return the id of a key that is retired already; None for another."""
    retired = journal.retired_keys()
    return rotation.named(retired, given) if retired else None


def _sign_again(registry: WritableRegistry, key: str, now: datetime) -> None:
    """Sign what counts with the key of today, in every journal, while ``key`` is still trusted."""
    trusted, signer = registry.keys.public().promotion, registry.keys.private()
    for found in journal.all_journals(trusted):
        for record in _needing(found, trusted.without(key)):
            found.sign(replace(record, moment=now), signer)


def _needing(found: Journal, remaining: PublicKeys) -> list[Signable]:
    """Return the latest standings and the last promotion that no remaining key signed.

    If the journal ends with another record that none signed, the promotion is signed again to cover it.
    """
    records = found.read()
    known = {text for text in (each.text for each in records.entries) if _verifies(found, text, remaining)}
    entries = [records.latest(Standing, version, verdict) for version, verdict in _stated(records)]
    needing = [each.record for each in entries if each and each.text not in known]
    last = records.last_promotion
    if last and (last.text not in known or (not needing and records.last and records.last.text not in known)):
        needing.append(last.record)
    return [_as_new(record) for record in needing if not isinstance(record, Recovery)]


def _as_new(record: Signable) -> Signable:
    # The roll-back itself is in the journal already; again, it would drop the champion before it.
    return replace(record, rolled_back=False) if isinstance(record, PromotionRecord) else record


def _verifies(found: Journal, text: str, keys: PublicKeys) -> bool:
    try:
        signed.read(text, keys, model=found.model, registry=found.registry)
    except VerdictError:
        return False
    return True


def _stated(records: Records) -> list[tuple[str, str]]:
    standings = (each.record for each in records.entries if isinstance(each.record, Standing))
    return sorted({(standing.version, standing.verdict) for standing in standings})


def _write_back(registry: WritableRegistry, now: datetime) -> Records:
    """Write what was signed to the registry, over anything that the retired key signed there, and set the alias."""
    kept = signing.journal_of(registry)
    records = kept.read()
    champion, alias = records.champion, registry.by_alias(CHAMPION)
    Signer(registry, kept, records, now).write_back()
    if champion and (alias is None or alias.version != champion.version):
        found = {(entry.version, entry.verdict) for entry in registry.versions()}
        if (champion.version, champion.verdict) in found:
            registry.set_alias(CHAMPION, champion.version)
    return records
