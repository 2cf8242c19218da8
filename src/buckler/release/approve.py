"""Approves the promotion of a version: one person signs what another one promotes.

An approval moves nothing. It is stored with the version, under the name of its person, until `buckler promote` puts all
valid ones into the signed promotion.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from buckler.errors import BucklerError, PromotionRefusedError
from buckler.release import bundle
from buckler.release.assess import Assessor
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHALLENGER
from buckler.serving.assessment import approvals_of
from buckler.serving.registry import APPROVAL_TAG
from buckler.serving.version import Version
from buckler.trust import approval, approvers
from buckler.trust.approval import Approval, Approvals, Signatures
from buckler.trust.public_keys import Approvers, PublicKeys, TrustedKeys, key_id
from buckler.trust.signing_key import SigningKey
from buckler.trust.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version that may be approved: its release was downloaded and verified.

    Attributes:
        version: Its entry in the registry.
        verdict: Its verdict.
        approvals: Who has approved it so far.
    """

    version: Version
    verdict: Verdict
    approvals: Approvals

    @property
    def approval(self) -> Approval:
        """What a person signs."""
        return Approval(
            self.version.model,
            self.version.version,
            self.verdict.subject_digest,
            self.verdict.id,
            self.version.registry,
        )

    @property
    def description(self) -> str:
        """What is approved, for the person who decides."""
        lines = (
            f"registry   {self.version.registry}",
            f"version    {self.version.version}",
            bundle.describe(self.verdict),
            f"approved   {self.approvals.summary}",
        )
        return "\n".join(lines)


def propose(registry: WritableRegistry, *, number: str | None = None, now: datetime | None = None) -> Proposal:
    """Download and verify a version, and return what there is to approve.

    Args:
        registry: Its keys verify.
        number: Number of the version; default: the challenger.
        now: Aware time; default: the current time.

    Raises:
        PromotionRefusedError: It would not be promoted anyway; lists every reason.
        RegistryError: No such version, or the registry cannot be reached.
    """
    version = registry.named(CHALLENGER) if number is None else registry.version(number)
    assessor = Assessor(registry, now or datetime.now(UTC))
    with assessor.opened(version, promoted=False) as (_, assessment):
        if assessment.reasons or assessment.verdict is None:
            raise PromotionRefusedError(f"{version} is not approved", assessment.sentences)
    return Proposal(version, assessment.verdict, assessor.approvals(version, assessment.verdict))


def approve(registry: WritableRegistry, proposal: Proposal, *, person: str, key: SigningKey) -> Approvals:
    """Sign the approval of ``person``, store it with the version, and return who has approved it now.

    Args:
        registry: Its keys verify.
        proposal: What is approved; the digests in it are signed, whatever the registry has meanwhile.
        person: Name under which the verifiers know the key.
        key: The person's own key.

    Raises:
        BucklerError: The approval would not count, or there is one already.
        RegistryError: The registry cannot be reached.
    """
    trusted = _with(registry.keys.public(), person, key, Signatures.of(proposal.verdict))
    texts = [*proposal.version.approvals.values(), proposal.approvals.text]
    if person in approvals_of(proposal.version, proposal.verdict, trusted, texts).approved:
        raise BucklerError(f"{person} has already approved {proposal.version}")
    text = approval.issue(proposal.approval, key)
    registry.tag(proposal.version.version, APPROVAL_TAG + person, text)
    return approvals_of(proposal.version, proposal.verdict, trusted, [*texts, text])


def _with(trusted: TrustedKeys, person: str, key: SigningKey, demanded: Signatures) -> TrustedKeys:
    """Return ``trusted`` with the person's key, which this machine need not know if the verdict names it.

    Raises:
        BucklerError: An approval with the key would not count.
    """
    if trusted.approvers.problem:
        raise BucklerError(trusted.approvers.problem)
    public, known = key.public_key(), trusted.approvers.keys.get(person)
    identity = key_id(public)
    if trusted.verdict.contain(public) or trusted.promotion.contain(public):
        raise BucklerError(
            f"the key {identity} signs verdicts or promotions: expected a key that {person} uses for approvals only;"
            f" `buckler keys init --for approvals --as {person}` creates one"
        )
    if demanded.keys and demanded.keys.get(person) != identity:
        listed = ", ".join(f"{name} with {each}" for name, each in sorted(demanded.keys.items()))
        raise BucklerError(
            f"expected an approver whom the verdict names ({listed}), got {person} with {identity}; change"
            " gate.signatures in params.yaml and run `dvc repro`"
        )
    if known is None and not demanded.keys:
        raise BucklerError(f"no verifier knows {person}: put {person}.pub into {approvers.directory()}")
    if known is not None and not known.contain(public):
        raise BucklerError(f"expected the key of {person} in {approvers.directory()}, got {identity}")
    people = {**trusted.approvers.keys, person: known or PublicKeys.of(public)}
    return replace(trusted, approvers=Approvers(people, trusted.approvers.required))
