"""Stage ``signer``: says which key signs the verdict and for which days, so that no other verdict is taken for it.

Reads   the signing key, which it creates where there is none
Writes  data/signer.json   id of the key; first day of a period of gate.valid_days, and of the next one

It always runs, because DVC can depend on neither a key in hardware nor the time. The stage `gate` depends on what it
writes: a verdict of another key, or of an earlier period, is never taken from DVC's cache. A verdict expires
gate.valid_days after it was issued, so one of the present period is still valid.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from buckler import params
from buckler.release.policy import Policy
from buckler.state import documents, paths
from buckler.trust import keys
from buckler.trust.public_keys import key_id
from buckler.trust.signing_key import SigningKey
from pipelines.stage import stage

SIGNER = Path("data/signer.json")
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Period:
    """Days in UTC on which a verdict of this period is issued: from ``first`` to before ``end``."""

    first: date
    end: date

    @classmethod
    def at(cls, now: datetime, days: int) -> "Period":
        """Return the period of ``days`` that contains the aware time ``now``; periods are counted from 1970-01-01."""
        epoch, today = date(1970, 1, 1), now.astimezone(UTC).date()
        first = today - (today - epoch) % timedelta(days)
        return cls(first, first + timedelta(days))


def signing_key() -> SigningKey:
    """Return the key that signs verdicts; create and announce the project's pairs where there are none.

    Raises:
        BucklerError: As `keys.load_or_create_signing_key`.
    """
    key, created = keys.load_or_create_signing_key()
    if created:
        pairs = f"{keys.PRIVATE_KEY_FILE} signs verdicts, {keys.PROMOTION_PRIVATE_FILE} promotions"
        print(f"made key pairs in {paths.KEYS}: {pairs} (keep both secret; the .pub files verify)")
    return key


def run(policy: Policy, now: datetime | None = None) -> None:
    """Write the id of the key and the period of the aware time ``now`` (default: the current time)."""
    period = Period.at(now or datetime.now(UTC), policy.valid_days)
    days = [period.first.isoformat(), period.end.isoformat()]
    documents.write_json(SIGNER, {"schema": SCHEMA, "key": key_id(signing_key().public_key()), "period": days})


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("gate", Policy))


if __name__ == "__main__":
    stage(main)
