"""Promotions that people must approve, in a real registry: by the rules, and by insiders with a key too few."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlflow import MlflowClient

from buckler import cli
from buckler.errors import BucklerError, PromotionRefusedError, RegistryError
from buckler.release import signing
from buckler.release.approve import Proposal, approve, propose
from buckler.release.assess import Assessor
from buckler.release.promote import Move, promote, rollback
from buckler.release.recover import recover
from buckler.release.restate import restate
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import Assessment
from buckler.serving.registry import APPROVAL_TAG
from buckler.trust import approval, keys
from buckler.trust.approval import Signatures
from buckler.trust.public_keys import Approvers, PublicKeys
from buckler.trust.standing import Claim
from tests import projects
from tests.unit.release.promoted import NOW, at

pytestmark = pytest.mark.slow

PEOPLE = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    for seed, name in enumerate(("alice", "bob", "carol"), 1)
}
PUBLIC = {name: PublicKeys.of(key.public_key()) for name, key in PEOPLE.items()}
TWO_OF_THREE = Signatures(2, {name: keys.id for name, keys in PUBLIC.items()})


class Approved:
    """A model in the registry whose promotions people approve."""

    def __init__(self, project: Path, name: str) -> None:
        self.project, self.name, self._days = project, name, 0

    def registry(self, *, own: int = 0, **people: PublicKeys) -> WritableRegistry:
        """Return the registry as a machine sees it that needs ``own`` approvals and knows ``people``; default: all."""
        trusted = replace(projects.TRUSTED, approvers=Approvers(people or PUBLIC, own))
        return WritableRegistry(self.name, keys.Keys(projects.PROMOTION_KEY, trusted))

    def publish(self, demanded: Signatures = TWO_OF_THREE, *, clean: int = 80) -> str:
        """Gate and publish a model as challenger and return the number of its version."""
        self._days += 1
        projects.make_project(self.project, weights=f"weights {self._days}".encode(), clean=clean)
        policy = replace(projects.POLICY, signatures=demanded)
        verdict = projects.build(self.project, name=self.name, policy=policy, now=at(0))
        return projects.publish(self.project, verdict, self.name)

    def propose(self, number: str) -> Proposal:
        return propose(self.registry(), number=number, now=NOW)

    def approve(self, number: str, *people: str) -> None:
        for person in people:
            approve(self.registry(), self.propose(number), person=person, key=PEOPLE[person])

    def promote(self, number: str | None = None, *, own: int = 0) -> Move:
        return promote(self.registry(own=own), number=number, now=NOW)

    def champion(self, *, own: int = 0, **people: PublicKeys) -> Assessment:
        """Return the champion as a service elsewhere sees it, which has no journal."""
        found = Assessor(self.registry(own=own, **people), NOW, signing.Records()).champion()
        assert found is not None
        return found

    def tag_of(self, number: str, person: str) -> str:
        return self.registry().version(number).approvals[person]

    def write(self, number: str, person: str, text: str) -> None:
        """Write a tag, as an attacker with write access to the registry can."""
        self.registry().tag(number, APPROVAL_TAG + person, text)

    def sign_promotion(self, number: str, *, approvals: str = "") -> None:
        """Sign and announce a promotion without its checks, as whoever has the promotion key can."""
        with signing.signing(self.registry(), NOW) as signer:
            verdict = self.propose(number).verdict
            signer.promote(self.registry().version(number), verdict, approvals=approvals)


@pytest.fixture
def model(project: Path, registry: str) -> Approved:
    return Approved(project, registry)


# --- by the rules


def test_two_people_approve_and_a_third_promotes(model):
    number = model.publish()
    with pytest.raises(PromotionRefusedError, match="nobody did; alice, bob or carol: `buckler approve --version 1"):
        model.promote()
    model.approve(number, "alice")
    with pytest.raises(PromotionRefusedError) as caught:
        model.promote()
    assert caught.value.failures == (
        "2 of 3 people must approve version 1, alice approved; bob or carol: `buckler approve --version 1 --as bob`",
    )
    model.approve(number, "carol")
    assert model.promote().version == number
    found = model.champion(own=2)
    assert (found.reasons, found.approvals.approved) == ((), ("alice", "carol"))


def test_tags_that_are_deleted_after_the_promotion_change_nothing(model):
    number = model.publish()
    model.approve(number, "alice", "bob")
    model.promote()
    for person in ("alice", "bob"):
        MlflowClient().delete_model_version_tag(model.name, number, APPROVAL_TAG + person)
    assert model.champion().reasons == ()
    assert model.promote(number).version == number  # again, with what the journal has
    assert model.champion().approvals.approved == ("alice", "bob")


def test_a_roll_back_needs_no_new_approvals(model):
    first = model.publish()
    model.approve(first, "alice", "bob")
    model.promote()
    second = model.publish()
    model.approve(second, "bob", "carol")
    model.promote()
    MlflowClient().delete_model_version_tag(model.name, first, APPROVAL_TAG + "alice")
    assert rollback(model.registry(), now=NOW).version == first
    found = model.champion()
    assert (found.reasons, found.approvals.approved) == ((), ("alice", "bob"))


def test_a_roll_back_passes_over_a_champion_that_no_service_would_load(model):
    number = model.publish(Signatures(0, {}))
    model.promote()
    model.approve(model.publish(), "alice", "bob")
    model.promote("2")
    with pytest.raises(RegistryError, match="1 of 3 people must approve version 1, nobody did"):
        rollback(model.registry(own=1), now=NOW)
    model.approve(number, "carol")
    assert rollback(model.registry(own=1), now=NOW).version == number
    assert model.champion(own=1).reasons == ()


def test_a_recovery_keeps_the_approvals(model):
    model.approve(model.publish(), "alice", "bob")
    model.promote()
    signing.journal_of(model.registry()).path.unlink()
    recover(model.registry(), person="Jo", reason="disk lost", now=NOW)
    MlflowClient().delete_model_version_tag(model.name, "1", APPROVAL_TAG + "alice")
    assert model.promote("1").version == "1"
    assert model.champion().approvals.approved == ("alice", "bob")


def test_nobody_has_to_approve_by_default(model):
    model.publish(Signatures(0, {}))
    model.promote()
    assert model.champion().reasons == ()


def test_five_approvals_fit_into_the_registry(model):
    model.publish(Signatures(0, {}))
    verdict = model.propose("1").verdict
    people = {f"person{seed}": Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in range(5)}
    approved = model.propose("1").approval
    trusted = replace(
        projects.TRUSTED, approvers=Approvers({name: PublicKeys.of(key.public_key()) for name, key in people.items()})
    )
    texts = [approval.issue(approved, key) for key in people.values()]
    together = approval.count(texts, approved, Signatures.of(verdict), trusted)
    model.sign_promotion("1", approvals=together.text)
    record = model.registry().version("1").promotion
    assert len(json.loads(together.text)["signatures"]) == 5
    assert len(record) < 5000  # what MLflow 2 stores of a tag
    found = Assessor(WritableRegistry(model.name, keys.Keys(trusted=trusted)), NOW).champion()
    assert len(found.approvals.approved) == 5


# --- what is not approved


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda model: restate(model.registry(), "1", "canary", Claim("withdrawn", "0 of 3"), now=NOW), "withdrawn"),
        (lambda model: model.registry().tag("1", "buckler.standing", "{"), "is not valid"),
    ],
)
def test_what_would_not_be_promoted_is_not_approved(model, spoil, why):
    model.publish()
    spoil(model)
    with pytest.raises(PromotionRefusedError, match=why):
        model.propose("1")


def test_a_failed_or_expired_verdict_is_not_approved(model):
    model.publish(clean=50)
    with pytest.raises(PromotionRefusedError, match="failed its gate"):
        model.propose("1")
    model.publish()
    with pytest.raises(PromotionRefusedError, match="expired"):
        propose(model.registry(), number="2", now=at(31))


def test_an_approval_that_would_not_count_is_not_signed(model):
    model.publish(Signatures(1, {"alice": PUBLIC["alice"].id}))
    proposal = model.propose("1")
    for person, key, why in [
        ("alice", PEOPLE["bob"], "expected an approver whom the verdict names"),
        ("bob", PEOPLE["bob"], "expected an approver whom the verdict names"),
        ("alice", projects.KEY, "signs verdicts or promotions"),
        ("alice", projects.PROMOTION_KEY, "signs verdicts or promotions"),
    ]:
        with pytest.raises(BucklerError, match=why):
            approve(model.registry(), proposal, person=person, key=key)
    assert model.registry().version("1").approvals == {}
    model.publish(Signatures(1, {}))
    for person, key, why in [
        ("dave", PEOPLE["bob"], "no verifier knows dave"),
        ("alice", PEOPLE["bob"], "expected the key of alice in"),
    ]:
        with pytest.raises(BucklerError, match=why):
            approve(model.registry(), model.propose("2"), person=person, key=key)


def test_a_second_approval_of_one_person_says_so(model):
    number = model.publish()
    model.approve(number, "alice")
    with pytest.raises(BucklerError, match="alice has already approved version 1"):
        model.approve(number, "alice")


def test_what_is_signed_is_what_was_shown_even_if_the_number_was_reused(model):
    model.publish()
    shown = model.propose("1")
    MlflowClient().delete_registered_model(model.name)
    model.publish(clean=90)
    approve(model.registry(), shown, person="alice", key=PEOPLE["alice"])
    model.approve("1", "bob")
    with pytest.raises(PromotionRefusedError, match="bob approved; alice or carol"):
        model.promote("1")


# --- attacks


def test_an_insider_with_the_verdict_key_does_not_waive_the_demand_of_a_verifier(model):
    model.publish(Signatures(0, {}))
    with pytest.raises(PromotionRefusedError, match="2 of 3 people must approve version 1, nobody did"):
        model.promote(own=2)
    model.promote()
    assert model.champion(own=2).codes == ("not_approved",)


def test_an_insider_with_the_verdict_key_does_not_name_approvers_of_their_own(model):
    mallory = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    public = PublicKeys.of(mallory.public_key())
    model.publish(Signatures(1, {"mallory": public.id}))
    proposal = model.propose("1")
    model.write("1", "mallory", approval.issue(proposal.approval, mallory))
    with pytest.raises(PromotionRefusedError, match="1 of 0 people must approve version 1, nobody did"):
        model.promote()


def test_an_insider_with_the_promotion_key_does_not_promote_without_approvals(model):
    number = model.publish()
    model.approve(number, "alice")
    model.sign_promotion(number, approvals=model.tag_of(number, "alice"))
    assert model.registry().by_alias(CHAMPION).version == number
    found = model.champion()
    assert (found.codes, found.may_load) == (("not_approved",), False)
    assert "alice approved; bob or carol" in found.reasons[0].sentence


def test_an_insider_with_both_keys_does_not_pass_a_service_with_a_demand_of_its_own(model):
    number = model.publish(Signatures(0, {}))
    proposal = model.propose(number)
    own = [approval.issue(proposal.approval, key) for key in (projects.KEY, projects.PROMOTION_KEY)]
    for text in own:
        model.sign_promotion(number, approvals=text)
        assert model.champion(own=1).codes == ("not_approved",)
        authors = {"author": projects.PUBLIC, "promoter": projects.PROMOTION_PUBLIC}
        assert model.champion(own=1, **authors).codes == ("not_approved",)


def test_approvals_of_another_version_or_verdict_are_not_replayed(model):
    first = model.publish()
    model.approve(first, "alice", "bob")
    model.promote()
    second = model.publish()
    for person in ("alice", "bob"):
        model.write(second, person, model.tag_of(first, person))
    with pytest.raises(PromotionRefusedError, match="nobody did"):
        model.promote(second)
    model.sign_promotion(second, approvals=model.champion().promotion.approvals)
    assert model.champion().codes == ("not_approved",)


def test_approvals_of_staging_are_not_replayed_in_production(model, monkeypatch):
    number = model.publish()
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", "staging")
    model.approve(number, "alice", "bob")
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", "production")
    with pytest.raises(PromotionRefusedError, match="nobody did"):
        model.promote(number)


def test_a_persons_approval_under_another_name_counts_once(model):
    number = model.publish()
    model.approve(number, "alice")
    model.write(number, "bob", model.tag_of(number, "alice"))
    with pytest.raises(PromotionRefusedError, match="alice approved; bob or carol"):
        model.promote(number)


def test_an_approval_that_somebody_else_signed_under_a_name_does_not_count(model):
    number = model.publish()
    model.approve(number, "alice")
    forged = approval.issue(model.propose(number).approval, Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32))
    model.write(number, "bob", forged)
    with pytest.raises(PromotionRefusedError, match="alice approved; bob or carol"):
        model.promote(number)


def test_an_approver_whose_key_was_removed_no_longer_counts(model):
    number = model.publish()
    model.approve(number, "alice", "bob")
    model.promote()
    left = {name: PUBLIC[name] for name in ("alice", "carol")}
    found = model.champion(**left)
    assert (found.codes, found.may_load) == (("not_approved",), False)
    assert "carol: `buckler approve --version 1 --as carol`, then `buckler promote --version 1`" in found.sentences[0]
    approve(
        model.registry(**left),
        propose(model.registry(**left), number=number, now=NOW),
        person="carol",
        key=PEOPLE["carol"],
    )
    promote(model.registry(**left), number=number, now=NOW)
    assert model.champion(**left).reasons == ()


# --- the command


@pytest.fixture
def team(project: Path, registry: str, fake_networks: None, capsys: pytest.CaptureFixture[str]) -> Path:
    """A project whose people have made their keys with the command, and a version to approve."""
    (project / "params.yaml").write_text(f"publish: {{experiment: x, model_name: {registry}}}\n")
    assert cli.main(["keys", "init"]) == 0
    ids = {}
    for person in ("alice", "bob"):
        assert cli.main(["keys", "init", "--for", "approvals", "--as", person]) == 0
        ids[person] = capsys.readouterr().out.rpartition(f"{person}: ")[2].strip()
    policy = replace(projects.POLICY, signatures=Signatures(2, ids))
    key = keys.load_private_key(project / ".buckler/keys/verdict.pem")
    projects.publish(project, projects.build(project, name=registry, policy=policy, key=key), registry)
    return project


def test_people_approve_and_promote_with_commands(team, capsys):
    assert cli.main(["approve", "--show"]) == 1
    assert "nobody (2 needed; alice, bob may)" in capsys.readouterr().out
    assert cli.main(["approve", "--as", "alice", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("registry   local", "verdict    passed", "code ", "clean ", "alice approves"))
    assert cli.main(["promote"]) == 1
    assert "2 of 2 people must approve version 1, alice approved; bob: `buckler approve" in capsys.readouterr().err
    key = team / "elsewhere.pem"
    (team / ".buckler/keys/approvers/bob.pem").rename(key)
    assert cli.main(["approve", "--as", "bob", "--key", str(key), "--yes"]) == 0
    assert cli.main(["approve", "--show"]) == 0
    assert cli.main(["promote"]) == 0
    capsys.readouterr()
    assert cli.main(["champion"]) == 0
    assert "approved   alice, bob (2 needed)" in capsys.readouterr().out


def test_without_a_terminal_or_a_name_nothing_is_signed(team, capsys):
    assert cli.main(["approve", "--as", "alice"]) == 2
    assert "cannot ask without a terminal" in capsys.readouterr().err
    assert cli.main(["approve", "--yes"]) == 2
    assert cli.main(["approve", "--as", "../alice", "--yes"]) == 2
    assert cli.main(["approve", "--as", "alice", "--key", "absent.pem", "--yes"]) == 2
    assert cli.main(["approve", "--show"]) == 1
    assert "nobody (2 needed" in capsys.readouterr().out


def test_a_pair_for_approvals_needs_a_name_and_is_never_overwritten(team, capsys):
    assert cli.main(["keys", "init", "--for", "approvals"]) == 2
    assert cli.main(["keys", "init", "--as", "carol"]) == 2
    assert cli.main(["keys", "init", "--for", "approvals", "--as", "alice"]) == 2
    assert "exists and is never overwritten" in capsys.readouterr().err
