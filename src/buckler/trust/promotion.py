"""The signed record of a promotion: proves that the alias ``champion`` was not moved by hand.

Anyone with write access to the registry can move its alias: to a version that was never compared with the champion, or
back to one that was replaced because it is weak. So each promotion and each roll-back stores a signed record with the
version. The service requires the record, and rejects one older than the newest it has accepted.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.trust.document import SignedDocument, Subjects, Time
from buckler.trust.envelope import parse_object
from buckler.trust.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """A promotion of one version of a model.

    Attributes:
        model: Name of the model in the registry.
        version: Number of the version in the registry.
        digest: ``directory_digest`` of the model.
        verdict: Id of the verdict that allowed the promotion.
        moment: Aware time of the promotion; the latest record is the valid one.
    """

    model: str
    version: str
    digest: str
    verdict: str
    moment: Time

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` is the promoted model."""
        return subjects == {self.model: self.digest}

    def check(self, verdict: Verdict) -> None:
        """Check that ``verdict`` is the one that allowed this promotion.

        Raises:
            VerdictError: ``not_promoted``.
        """
        if (self.digest, self.verdict) != (verdict.subject_digest, verdict.id):
            raise VerdictError(
                "not_promoted",
                f"version {self.version} of {self.model} was promoted with model {self.digest} and verdict"
                f" {self.verdict}, but now contains {verdict.subject_digest} and {verdict.id}",
            )


DOCUMENT = SignedDocument("promotion", PromotionRecord)


def issue(key: Ed25519PrivateKey, *, model_name: str, version: str, verdict: Verdict, moment: datetime) -> str:
    """Return the signed record as text, in the form that the registry stores."""
    record = PromotionRecord(model_name, version, verdict.subject_digest, verdict.id, moment)
    return json.dumps(DOCUMENT.sign(record, {model_name: record.digest}, key), separators=(",", ":"))


def read(text: str, public_key: Ed25519PublicKey, *, model_name: str, version: str) -> PromotionRecord:
    """Return the record in ``text`` if ``public_key`` signed it for this version.

    Raises:
        VerdictError: ``not_promoted``.
    """
    subject = f"version {version} of {model_name}"
    if not text:
        raise VerdictError("not_promoted", f"{subject} has no signed promotion: the alias was moved by hand")
    try:
        record = DOCUMENT.open(parse_object(text.encode(), "the promotion"), public_key).predicate
    except VerdictError as error:
        raise VerdictError("not_promoted", f"the promotion of {subject} is not valid: {error}") from error
    if (record.model, record.version) != (model_name, version):
        raise VerdictError(
            "not_promoted", f"{subject} carries the promotion of version {record.version} of {record.model}"
        )
    return record
