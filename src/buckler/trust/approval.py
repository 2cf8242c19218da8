"""Signed approvals of a promotion, by people who neither made the model nor promote it.

An approval names registry, model, version, digest and verdict, and no time. So all who approve a release sign the same
bytes, and one DSSE envelope has all their signatures. The signed promotion contains it: what approved a champion cannot
be deleted from the registry.

An approver's key counts for one person, and only if it signs neither verdicts nor promotions here: author and approver
are different people.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from buckler.errors import VerdictError, faults_of
from buckler.trust import envelope
from buckler.trust.digests import canonical
from buckler.trust.document import SignedDocument, Subjects
from buckler.trust.public_keys import NAME, PublicKeys, TrustedKeys
from buckler.trust.signing_key import SigningKey
from buckler.trust.verdict import Verdict

Person = Annotated[str, Field(pattern=NAME)]
KeyId = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Signatures:
    """How many people must approve a promotion, and who may.

    Attributes:
        required: Number of people; 0: nobody has to approve.
        keys: Name of a person -> id of her key; empty: whoever the verifier knows as an approver.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    required: Annotated[int, Field(ge=0, le=1000)]
    keys: Mapping[Person, KeyId]

    def __post_init__(self) -> None:
        """Reject a key under two names, and more people than there are."""
        if len(set(self.keys.values())) != len(self.keys):
            raise ValueError(f"expected another key for each person, got one of them twice: {dict(self.keys)}")
        if self.keys and self.required > len(self.keys):
            raise ValueError(f"expected at most {len(self.keys)} required people, as many as keys, got {self.required}")

    @classmethod
    def of(cls, verdict: Verdict) -> "Signatures":
        """Return what a verdict demands; verdicts of earlier versions demand nothing.

        Raises:
            VerdictError: ``malformed``.
        """
        try:
            return _SIGNATURES.validate_json(canonical(verdict.policy.get("signatures", _NOBODY)), strict=True)
        except ValidationError as error:
            raise VerdictError("malformed", f"signatures in the policy of {verdict.id}: {faults_of(error)}") from error


_NOBODY: Mapping[str, Any] = {"required": 0, "keys": {}}
_SIGNATURES = TypeAdapter(Signatures)


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval of a promotion of one version of a model; equal for all who approve it.

    Attributes:
        model: Name of the model in the registry.
        version: Number of the version in the registry.
        digest: ``directory_digest`` of the model.
        verdict: Id of the verdict.
        registry: Id of the registry in which it is valid.
    """

    model: str
    version: str
    digest: str
    verdict: str
    registry: str

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether ``subjects`` is the approved model."""
        return subjects == {self.model: self.digest}


DOCUMENT = SignedDocument("approval", Approval)


def issue(approval: Approval, key: SigningKey) -> str:
    """Return the signed approval as text, in the form that the registry stores."""
    return _text(DOCUMENT.sign(approval, {approval.model: approval.digest}, key))


@dataclass(frozen=True, slots=True)
class Approvals:
    """Who has approved one version, and who still may.

    Attributes:
        needed: Number of people who must approve.
        approved: Names of those who have.
        missing: Names of those who may and have not.
        text: One envelope with their valid signatures; empty without any.
        problem: Why nobody's approval counts; empty if they do.
    """

    needed: int
    approved: tuple[str, ...]
    missing: tuple[str, ...]
    text: str
    problem: str = ""

    @property
    def enough(self) -> bool:
        """Whether as many people have approved as must."""
        return len(self.approved) >= self.needed

    @property
    def summary(self) -> str:
        """Who has approved and who may, in short."""
        have = ", ".join(self.approved) or "nobody"
        others = f"; {', '.join(self.missing)} may" if self.missing else ""
        return f"{have} ({self.needed} needed{others})"

    def sentence(self, version: str) -> str:
        """Return who approved version ``version`` and who is missing, and the command for those."""
        if self.problem:
            return f"{self.needed} people must approve version {version}, and {self.problem}"
        people = f"{self.needed} of {len(self.approved) + len(self.missing)} people must approve version {version}"
        have = f"{_listed(self.approved, 'and')} approved" if self.approved else "nobody did"
        if len(self.approved) + len(self.missing) < self.needed:
            return f"{people}, {have}: add the public keys of further approvers that the verdict's policy allows"
        if not self.missing:
            return f"{people}, {have}"
        command = f"`buckler approve --version {version} --as {self.missing[0]}`"
        return f"{people}, {have}; {_listed(self.missing, 'or')}: {command}"


def count(texts: Iterable[str], expected: Approval, demanded: Signatures, trusted: TrustedKeys) -> Approvals:
    """Return whose approvals in ``texts`` count.

    Args:
        texts: Signed approvals of one or more people each; whatever is not valid does not count.
        expected: What must have been approved, exactly.
        demanded: What the verdict demands; the verifier's own number counts if it is higher.
        trusted: The verifier's keys.
    """
    people = {name: _allowed(keys, demanded, trusted) for name, keys in trusted.approvers.keys.items()}
    people = {name: keys for name, keys in people.items() if keys}
    allowed = PublicKeys.of(*keys) if (keys := [key for each in people.values() for key in each]) else None
    valid = [found for text in texts if allowed and (found := _valid(text, expected, allowed))]
    signers = {key for _, keys in valid for key in keys}
    approved = {name for name, keys in people.items() if not signers.isdisjoint(PublicKeys.of(*keys).ids)}
    return Approvals(
        max(demanded.required, trusted.approvers.required),
        tuple(sorted(approved)),
        tuple(sorted(people.keys() - approved)),
        _text(envelope.joined(valid)) if valid else "",
        trusted.approvers.problem,
    )


def _allowed(keys: PublicKeys, demanded: Signatures, trusted: TrustedKeys) -> list[Ed25519PublicKey]:
    """Return the keys of a person that count: those of an author or promoter do not."""
    authors = {*trusted.verdict.ids, *trusted.promotion.ids}
    listed = set(demanded.keys.values()) or set(keys.ids)
    return [key for each in keys.ids if each in listed - authors and (key := keys.get(each))]


def _valid(text: str, expected: Approval, keys: PublicKeys) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Return the envelope in ``text`` and its signers among ``keys``; None if it approves anything else."""
    try:
        sealed = envelope.parse_object(text, "the approval")
        opened = DOCUMENT.open(sealed, keys)
    except VerdictError:
        return None
    # The bytes, not only the fields that are read: another payload would keep the signatures from being joined.
    return (sealed, opened.signers) if opened.digest == _digest(expected) else None


def _digest(approval: Approval) -> str:
    return DOCUMENT.digest(approval, {approval.model: approval.digest})


def _text(sealed: Mapping[str, Any]) -> str:
    return json.dumps(sealed, separators=(",", ":"))


def _listed(names: tuple[str, ...], word: str) -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
