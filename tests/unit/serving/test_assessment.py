"""Every reason with the documents that cause it, alone and with others."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.serving.assessment import Accepted, Assessment, Reason, ReasonCode, assess
from buckler.serving.version import Version
from buckler.trust import approval, promotion, standing
from buckler.trust.approval import Approval
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import Approvers, PublicKeys
from buckler.trust.standing import Claim, Standing
from buckler.trust.verdict import Verdict
from tests import projects
from tests.verdicts import verdict

NOW = datetime(2026, 1, 10, tzinfo=UTC)
ISSUED, PROMOTED = NOW - timedelta(days=2), NOW - timedelta(days=1)
KEY = projects.PROMOTION_KEY
MODEL, REGISTRY = "skin-lesion", "production"
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SOUND = verdict(issued_at=ISSUED, expires_at=NOW + timedelta(days=20))
OTHER = verdict(id=f"sha256:{'0' * 64}", issued_at=ISSUED, expires_at=NOW + timedelta(days=20))


def promotion_of(judged: Verdict = SOUND, key: Ed25519PrivateKey = KEY, **changes: object) -> str:
    record = PromotionRecord(MODEL, "2", judged.subject_digest, judged.id, PROMOTED, REGISTRY, sequence=4)
    return promotion.issue(replace(record, **changes), key)


@dataclass(frozen=True)
class Documents:
    """What is known about version 2; by default nothing speaks against it."""

    judged: Verdict | None = SOUND
    flaws: tuple[Reason, ...] = ()
    claims: dict[str, Claim] = field(default_factory=dict)
    signed_standing: Callable[[Standing], str] = lambda current: standing.issue(current, KEY)
    promotion: str | None = None
    promoted_as: Verdict = SOUND
    latest: str | None = None
    accepted: Accepted = field(default_factory=Accepted)
    approvers: Approvers = field(default_factory=Approvers)

    @property
    def standing(self) -> Standing:
        bare = standing.of_verdict(self.judged or SOUND, model_name=MODEL, version="2")
        return replace(bare, claims=self.claims, moment=NOW, registry=REGISTRY, sequence=5)

    def assess(self, now: datetime = NOW, *, promoted: bool = True) -> Assessment:
        record = promotion_of(self.promoted_as)
        version = Version(
            MODEL,
            "2",
            promotion=record if self.promotion is None else self.promotion,
            standing=self.signed_standing(self.standing),
            latest=record if self.latest is None else self.latest,
            registry=REGISTRY,
        )
        return assess(
            version,
            self.judged,
            replace(projects.TRUSTED, approvers=self.approvers),
            now=now,
            flaws=self.flaws,
            promoted=promoted,
            accepted=self.accepted,
        )


REPLACED = promotion_of(version="3", sequence=6)


def codes(assessment: Assessment) -> list[str]:
    return [reason.code.value for reason in assessment.reasons]


def test_a_promoted_version_with_a_valid_verdict_may_serve():
    found = Documents().assess()
    assert (found.reasons, found.may_load, found.may_serve, found.must_review) == ((), True, True, False)
    assert found.verdict is SOUND
    assert found.promotion.moment == PROMOTED
    assert found.standing.state == "holds"


def test_approvals_in_the_promotion_are_enough_and_are_named():
    found = approved(demanding(2), ALICE, BOB, own=1).assess()
    assert (found.reasons, found.approvals.approved) == ((), ("alice", "bob"))


def test_approvals_count_where_nobody_demands_them():
    found = approved(SOUND, ALICE).assess()
    assert (found.reasons, found.approvals.approved) == ((), ("alice",))


FAILED = replace(SOUND, passed=False, reasons=("clean accuracy 0.6 < 0.7", "robust accuracy 0.1 < 0.3"))
EXPIRED = replace(SOUND, expires_at=NOW)


def claimed(**states: str) -> dict[str, Claim]:
    return {job: Claim(state, f"{job} found something") for job, state in states.items()}


ALICE, BOB = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
PEOPLE = {name: PublicKeys.of(key.public_key()) for name, key in {"alice": ALICE, "bob": BOB}.items()}


def approved_by(*people: Ed25519PrivateKey, judged: Verdict = SOUND) -> str:
    """Return a promotion with approvals."""
    approved = Approval(MODEL, "2", judged.subject_digest, judged.id, REGISTRY)
    texts = [approval.issue(approved, key) for key in people]
    together = approval.count(
        texts, approved, approval.Signatures(0, {}), replace(projects.TRUSTED, approvers=Approvers(PEOPLE))
    )
    return promotion_of(judged, approvals=together.text)


def demanding(required: int) -> Verdict:
    """Return a verdict whose policy demands approvals of any people whom the verifier knows."""
    return replace(SOUND, policy={"signatures": {"required": required, "keys": {}}})


def approved(judged: Verdict, *people: Ed25519PrivateKey, own: int = 0, known: object = PEOPLE) -> Documents:
    """Return the documents of a version whose promotion ``people`` approved, at a verifier that needs ``own``."""
    return Documents(judged, promoted_as=judged, promotion=approved_by(*people), approvers=Approvers(known, own))


TABLE: list[tuple[str, Documents, list[str], str]] = [
    ("the gate failed", Documents(FAILED, promoted_as=FAILED), ["failed"] * 2, "clean accuracy 0.6 < 0.7"),
    ("no reason was given", Documents(replace(SOUND, passed=False)), ["failed"], "no reason given"),
    ("the verdict expired", Documents(EXPIRED), ["expired"], "renews it if the model still passes"),
    ("no promotion", Documents(promotion=""), ["not_promoted"], "run `buckler promote --version 2`"),
    ("a damaged promotion", Documents(promotion="{"), ["not_promoted"], "is not valid"),
    (
        "a promotion by a stranger",
        Documents(promotion=promotion_of(key=STRANGER)),
        ["not_promoted"],
        "is not valid",
    ),
    (
        "a promotion by the verdict key",
        Documents(promotion=promotion_of(key=projects.KEY)),
        ["not_promoted"],
        "or with a key of another role",
    ),
    (
        "a latest promotion by the verdict key",
        Documents(latest=promotion_of(key=projects.KEY, sequence=9)),
        ["not_promoted"],
        "or with a key of another role",
    ),
    (
        "the promotion of another version",
        Documents(promotion=promotion_of(version="1")),
        ["not_promoted"],
        "carries the promotion of version 1",
    ),
    ("a promotion with another verdict", Documents(promoted_as=OTHER), ["not_promoted"], "but now contains"),
    ("a promotion in staging", Documents(promotion=promotion_of(registry="staging")), ["not_promoted"], "'staging'"),
    ("replaced since", Documents(latest=REPLACED), ["superseded"], "version 3 later, by record 6"),
    ("the latest promotion deleted", Documents(latest=""), ["not_promoted"], "or the record deleted"),
    (
        "the latest promotion of staging",
        Documents(latest=promotion_of(registry="staging")),
        ["not_promoted"],
        "'staging'",
    ),
    ("a damaged latest promotion", Documents(latest="{"), ["not_promoted"], "is not valid"),
    ("one of two approvals that the verdict demands", approved(demanding(2), ALICE), ["not_approved"], "; bob: "),
    ("no approval that this verifier demands", approved(SOUND, own=1), ["not_approved"], "nobody did; alice or bob"),
    (
        "a verdict that demands less than this verifier",
        approved(demanding(1), ALICE, own=2),
        ["not_approved"],
        "alice approved; bob: `buckler approve --version 2 --as bob`, then `buckler promote --version 2`",
    ),
    (
        "an approver whom this verifier no longer knows",
        approved(demanding(2), ALICE, BOB, known={"alice": PEOPLE["alice"]}),
        ["not_approved"],
        "add the public keys of further approvers",
    ),
    (
        "a demand that cannot be read",
        approved(replace(SOUND, policy={"signatures": {"required": "0"}}), ALICE, BOB),
        ["not_approved"],
        "signatures in the policy",
    ),
    (
        "a standing in staging",
        Documents(signed_standing=lambda current: standing.issue(replace(current, registry="staging"), KEY)),
        ["standing"],
        "'staging'",
    ),
    (
        "a later promotion was accepted",
        Documents(accepted=Accepted(promotion=5)),
        ["superseded"],
        "the alias was moved by hand",
    ),
    (
        "withdrawn by a job",
        Documents(claims=claimed(canary="withdrawn")),
        ["withdrawn"],
        "`buckler champion --lift canary --version 2`",
    ),
    ("degraded by two jobs", Documents(claims=claimed(drift="degraded", probe="degraded")), ["degraded"] * 2, "drift"),
    ("a damaged standing", Documents(signed_standing=lambda _: "{"), ["standing"], "it is ignored"),
    (
        "a standing by a stranger",
        Documents(signed_standing=lambda current: standing.issue(current, STRANGER)),
        ["standing"],
        "it is ignored",
    ),
    (
        "a standing by the verdict key",
        Documents(signed_standing=lambda current: standing.issue(current, projects.KEY)),
        ["standing"],
        "it is ignored",
    ),
    (
        "a standing of another version",
        Documents(signed_standing=lambda current: standing.issue(replace(current, version="1"), KEY)),
        ["standing"],
        "belongs to version 1",
    ),
    (
        "a standing about another verdict",
        Documents(signed_standing=lambda current: standing.issue(replace(current, verdict=OTHER.id), KEY)),
        ["standing"],
        "but the version now contains",
    ),
    (
        "an old standing put back",
        Documents(accepted=Accepted(replace(Documents().standing, sequence=6))),
        ["standing"],
        "an old standing was put back",
    ),
    (
        "an old standing put back over a withdrawal",
        Documents(accepted=Accepted(replace(Documents(claims=claimed(canary="withdrawn")).standing, sequence=6))),
        ["withdrawn", "standing"],
        "",
    ),
    (
        "deleted after a withdrawal",
        Documents(
            signed_standing=lambda _: "", accepted=Accepted(Documents(claims=claimed(canary="withdrawn")).standing)
        ),
        ["withdrawn"],
        "",
    ),
    (
        "failed, expired and moved by hand",
        Documents(replace(FAILED, expires_at=NOW), promotion=""),
        ["failed", "failed", "expired", "not_promoted"],
        "",
    ),
]


@pytest.mark.parametrize(("documents", "expected", "text"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_reason_has_its_documents_and_says_what_to_do(documents: Documents, expected: list[str], text: str):
    found = documents.assess()
    assert codes(found) == expected
    assert text in found.reasons[0].sentence
    assert all(re.search(r"`buckler \w+|find who|promote a version that", each.sentence) for each in found.reasons)


# --- what follows from the reasons


@pytest.mark.parametrize(
    ("documents", "may_load", "may_serve", "must_review"),
    [
        (Documents(FAILED), False, False, False),
        (Documents(EXPIRED), False, False, True),  # what is live already goes on, with review
        (Documents(promotion=""), False, False, False),
        (Documents(claims=claimed(canary="withdrawn")), True, False, False),
        (Documents(claims=claimed(canary="degraded")), True, True, True),
        (Documents(signed_standing=lambda _: "{"), True, True, False),
    ],
)
def test_a_reason_prevents_loading_or_answers_or_requires_review(documents, may_load, may_serve, must_review):
    found = documents.assess()
    assert (found.may_load, found.may_serve, found.must_review) == (may_load, may_serve, must_review)


def test_a_renewal_moves_the_expiry():
    until = NOW + timedelta(days=30)
    renewed = Documents(
        EXPIRED,
        signed_standing=lambda current: standing.issue(replace(current, expires_at=until), KEY),
    )
    assert renewed.assess().reasons == ()
    assert codes(renewed.assess(until)) == ["expired"]


def test_a_candidate_needs_no_promotion():
    found = Documents(promotion="", latest=REPLACED).assess(promoted=False)
    assert (found.reasons, found.promotion) == ((), None)


def test_a_promotion_later_than_the_models_record_counts_because_the_alias_moves_first():
    assert Documents(latest=promotion_of(sequence=3, version="1")).assess().reasons == ()


def test_times_order_nothing():
    far = datetime(9999, 1, 1, tzinfo=UTC)
    assert Documents(latest=promotion_of(sequence=3, moment=far)).assess().reasons == ()


def test_a_reused_number_inherits_neither_claims_nor_a_renewal():
    former = replace(
        Documents(OTHER, claims=claimed(canary="withdrawn")).standing, expires_at=NOW + timedelta(days=900)
    )
    found = Documents(signed_standing=lambda _: "", accepted=Accepted(former)).assess()
    assert (found.reasons, found.standing.expires_at) == ((), SOUND.expires_at)


def test_a_standing_about_another_release_does_not_hide_what_was_accepted_about_this_one():
    withdrawn = Documents(claims=claimed(canary="withdrawn")).standing
    other = standing.issue(replace(withdrawn, verdict=OTHER.id, claims={}, sequence=9), KEY)
    found = Documents(signed_standing=lambda _: other, accepted=Accepted(withdrawn)).assess()
    assert codes(found) == ["withdrawn", "standing"]


# --- combinations


def expire(documents: Documents) -> Documents:
    return replace(documents, judged=replace(documents.judged, expires_at=NOW))


def fail(documents: Documents) -> Documents:
    return replace(documents, judged=replace(documents.judged, passed=False, reasons=("weak",)))


def found_in_release(code: ReasonCode) -> Callable[[Documents], Documents]:
    return lambda documents: replace(documents, flaws=(*documents.flaws, Reason(code, code)))


def need_an_approval(documents: Documents) -> Documents:
    return replace(documents, approvers=Approvers(required=1))


def claim(job: str, state: str) -> Callable[[Documents], Documents]:
    return lambda documents: replace(documents, claims={**documents.claims, **claimed(**{job: state})})


DEFECTS: dict[ReasonCode, Callable[[Documents], Documents]] = {
    ReasonCode.DIGEST: found_in_release(ReasonCode.DIGEST),
    ReasonCode.OTHER_MODEL: found_in_release(ReasonCode.OTHER_MODEL),
    ReasonCode.UNLOADABLE: found_in_release(ReasonCode.UNLOADABLE),
    ReasonCode.FAILED: fail,
    ReasonCode.EXPIRED: expire,
    ReasonCode.NOT_PROMOTED: lambda documents: replace(documents, promoted_as=OTHER),
    ReasonCode.SUPERSEDED: lambda documents: replace(documents, latest=REPLACED),
    ReasonCode.NOT_APPROVED: need_an_approval,
    ReasonCode.WITHDRAWN: claim("canary", "withdrawn"),
    ReasonCode.DEGRADED: claim("drift", "degraded"),
    ReasonCode.STANDING: lambda documents: replace(documents, signed_standing=lambda _: "{"),
}


def with_defects(defects: tuple[ReasonCode, ...]) -> set[ReasonCode]:
    documents = Documents()
    for defect in defects:
        documents = DEFECTS[defect](documents)
    # A service has accepted the standing before: a damaged tag does not hide its claims.
    documents = replace(documents, accepted=Accepted(documents.standing))
    return set(documents.assess().codes)


def test_every_set_of_defects_gives_exactly_its_reasons():
    """So repairing one of them removes its reason and no other."""
    for size in range(len(DEFECTS) + 1):
        for defects in combinations(DEFECTS, size):
            assert with_defects(defects) == set(defects)


def test_every_reason_has_a_test():
    from_releases = {"missing", "malformed", "signature"}  # tests/unit/serving/test_release_files.py
    from_the_service = {"self_test", "put_back", "source", "unavailable"}  # tests/services/classifier/releases
    assert {code.value for code in DEFECTS} | from_releases | from_the_service == {*ReasonCode}
