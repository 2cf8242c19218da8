"""The signed record of a promotion: what makes the alias ``champion`` more than a note that anybody can move.

Whoever can write to the registry can move its alias: to a version that no promotion compared with the champion, or back
to one that was replaced because it is weak. So each promotion, and each roll-back, is put down in a DSSE envelope
beside the version; the service asks for it, and follows none that is older than one it has followed.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.trust.envelope import open_envelope, parse_object, sign
from buckler.trust.verdict import Verdict

PAYLOAD_TYPE = "application/vnd.buckler.promotion+json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What was signed.

    Attributes:
        model, version: Name and number in the registry.
        digest: Of the model bytes.
        verdict: Id of the verdict that the promotion rested on.
        moment: Aware time; of two records the later one counts.
    """

    model: str
    version: str
    digest: str
    verdict: str
    moment: datetime

    def check(self, verdict: Verdict) -> None:
        """See that ``verdict`` is the one that this promotion rested on.

        Raises:
            VerdictError: ``not_promoted``.
        """
        if (self.digest, self.verdict) != (verdict.subject_digest, verdict.id):
            raise VerdictError(
                "not_promoted",
                f"version {self.version} of {self.model} was promoted with model {self.digest} and verdict"
                f" {self.verdict}, it now holds {verdict.subject_digest} and {verdict.id}",
            )


def issue(key: Ed25519PrivateKey, *, model_name: str, version: str, verdict: Verdict, moment: datetime) -> str:
    """Return the record as it is kept in the registry."""
    statement = {
        "schema": SCHEMA,
        "model": model_name,
        "version": version,
        "digest": verdict.subject_digest,
        "verdict": verdict.id,
        "moment": moment.isoformat(),
    }
    return json.dumps(sign(statement, key, payload_type=PAYLOAD_TYPE), separators=(",", ":"))


def read(text: str, public_key: Ed25519PublicKey, *, model_name: str, version: str) -> Record:
    """Return the record in ``text`` if ``public_key`` signed it about this version.

    Raises:
        VerdictError: ``not_promoted``.
    """
    what = f"version {version} of {model_name}"
    if not text:
        raise VerdictError(
            "not_promoted",
            f"{what} bears no signed promotion: the alias was moved by hand; `buckler promote --version {version}`",
        )
    try:
        envelope = parse_object(text.encode(), "the promotion")
        statement = open_envelope(envelope, public_key, payload_type=PAYLOAD_TYPE)
        record = _record(statement)
    except VerdictError as error:
        raise VerdictError("not_promoted", f"the promotion of {what} does not hold: {error}") from error
    if (record.model, record.version) != (model_name, version):
        raise VerdictError("not_promoted", f"{what} bears the promotion of version {record.version} of {record.model}")
    return record


def _record(statement: dict[str, object]) -> Record:
    try:
        if statement["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {statement['schema']!r}")
        texts = {name: statement[name] for name in ("model", "version", "digest", "verdict", "moment")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError(f"expected text, got {texts}")
        moment = datetime.fromisoformat(str(texts.pop("moment")))
        if moment.tzinfo is None:
            raise ValueError(f"expected a time with its zone, got {moment}")
    except (KeyError, TypeError, ValueError) as error:
        raise VerdictError("malformed", f"the signed promotion does not hold what it must: {error!r}") from error
    return Record(**{name: str(text) for name, text in texts.items()}, moment=moment)
