"""The signed record of a promotion: proves that the alias ``champion`` was not moved by hand.

Anyone with write access to the registry can move its alias: to a version that was never compared with the champion, or
back to one that was replaced because it is weak. So each promotion and each roll-back stores a signed record, with the
version and with the model. The service requires the record to be the latest one of the model in its own registry.
"""

import json
from dataclasses import dataclass

from buckler.errors import VerdictError
from buckler.trust.audit import START
from buckler.trust.document import RecordNumber, SignedDocument, Subjects, Time
from buckler.trust.envelope import parse_object
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey
from buckler.trust.verdict import Verdict


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """A promotion of one version of a model.

    Attributes:
        model: Name of the model in the registry.
        version: Number of the version in the registry.
        digest: ``directory_digest`` of the model.
        verdict: Id of the verdict that allowed the promotion.
        moment: Aware time of the promotion.
        registry: Id of the registry in which it is valid; empty in a record of version 1, which is valid in none.
        sequence: Number of this record in the signer's journal; the promotion with the highest number is the valid one.
        previous: ``sha256:…`` of the journal's line before this record.
        rolled_back: Whether it goes back to an earlier champion.
        approvals: Signed approvals of this version, one envelope with a signature for each person; empty without any.
    """

    model: str
    version: str
    digest: str
    verdict: str
    moment: Time
    registry: str = ""
    sequence: RecordNumber = 0
    previous: str = START
    rolled_back: bool = False
    approvals: str = ""

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


DOCUMENT = SignedDocument("promotion", PromotionRecord, version=2)


def issue(record: PromotionRecord, key: SigningKey) -> str:
    """Return the signed record as text, in the form that the registry stores."""
    return json.dumps(DOCUMENT.sign(record, {record.model: record.digest}, key), separators=(",", ":"))


def read(text: str, public_keys: PublicKeys, *, model_name: str, version: str, registry: str) -> PromotionRecord:
    """Return the record in ``text`` if one of ``public_keys`` signed it for this version in this registry.

    Raises:
        VerdictError: ``not_promoted``.
    """
    subject = f"version {version} of {model_name}"
    record = _opened(text, public_keys, subject, registry)
    if (record.model, record.version) != (model_name, version):
        raise VerdictError(
            "not_promoted", f"{subject} carries the promotion of version {record.version} of {record.model}"
        )
    return record


def read_latest(text: str, public_keys: PublicKeys, *, model_name: str, registry: str) -> PromotionRecord:
    """Return the record in ``text``, the latest one of the model in this registry, if one of ``public_keys`` signed it.

    Raises:
        VerdictError: ``not_promoted``.
    """
    record = _opened(text, public_keys, f"model {model_name}", registry)
    if record.model != model_name:
        raise VerdictError("not_promoted", f"model {model_name} carries the promotion of {record.model}")
    return record


def _opened(text: str, public_keys: PublicKeys, subject: str, registry: str) -> PromotionRecord:
    if not text:
        raise VerdictError(
            "not_promoted", f"{subject} has no signed promotion: the alias was moved by hand, or the record deleted"
        )
    try:
        record = DOCUMENT.open(parse_object(text, "the promotion"), public_keys).predicate
    except VerdictError as error:
        raise VerdictError("not_promoted", f"the promotion of {subject} is not valid: {error}") from error
    if not record.registry:
        raise VerdictError(
            "not_promoted",
            f"the promotion of {subject} was signed by an earlier version of Buckler and names no registry",
        )
    if record.registry != registry:
        raise VerdictError(
            "not_promoted",
            f"the promotion of {subject} was signed for the registry {record.registry!r}, this is {registry!r}"
            " (BUCKLER_REGISTRY_ID)",
        )
    return record
