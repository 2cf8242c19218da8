"""A service loads a champion that enough people approved, and no other; the live model goes on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlflow import MlflowClient

from buckler.serving.registry import APPROVAL_TAG
from buckler.trust import approval
from buckler.trust.approval import Approval, Signatures
from buckler.trust.keys import load_trusted_keys
from buckler.trust.public_keys import PublicKeys
from buckler.trust.standing import Claim
from services.classifier.releases import lookup
from services.classifier.settings import Settings
from tests.key_files import public_env
from tests.services.champions import Champion, forget
from tests.services.registry_models import begin, value
from tests.services.running import load_served

pytestmark = pytest.mark.slow

PEOPLE = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    for seed, name in enumerate(("alice", "bob", "carol"), 1)
}
TWO = {"signatures": {"required": 2, "keys": {}}}


def refused() -> float:
    return value("buckler_model_refused_total", reason="not_approved")


@pytest.fixture
def approvers(tmp_path: Path) -> Path:
    """The service's directory of approvers: alice, bob and carol."""
    directory = tmp_path / "approvers"
    directory.mkdir()
    for name, key in PEOPLE.items():
        (directory / f"{name}.pub").write_bytes(PublicKeys.of(key.public_key()).pem)
    return directory


@pytest.fixture(autouse=True)
def environment(keys: Path, mlflow_database: str, tmp_path: Path, approvers: Path, monkeypatch) -> None:
    for variable, place in {**public_env(keys), "BUCKLER_APPROVER_KEYS": str(approvers)}.items():
        monkeypatch.setenv(variable, place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(settings: Settings, release: Path, keys: Path, tmp_path: Path) -> Iterator[Callable[..., Champion]]:
    yield lambda **verdict: Champion(settings.model_name, release, keys, tmp_path, **verdict)
    forget(settings.model_name)


def approvals(champion: Champion, *people: str) -> str:
    """Return the envelope of approvals of the champion's last version."""
    verdict, version = champion.verdict, champion.registry.version(champion.version)
    expected = Approval(version.model, version.version, verdict.subject_digest, verdict.id, version.registry)
    texts = [approval.issue(expected, PEOPLE[name]) for name in people]
    for name, text in zip(people, texts, strict=True):
        champion.registry.tag(version.version, APPROVAL_TAG + name, text)
    return approval.count(texts, expected, Signatures(0, {}), load_trusted_keys()).text


@pytest.mark.parametrize("own", [False, True], ids=["demanded by the verdict", "demanded by the service"])
def test_a_champion_is_loaded_when_enough_people_approved_it(settings, make, monkeypatch, own):
    champion = make()
    champion.promote(approvals(champion, "alice", "bob"))
    if own:
        monkeypatch.setenv("BUCKLER_SIGNATURES", "2")
    slot, following = begin(settings)
    champion.publish(policy={} if own else TWO)
    before = refused()
    following.check()
    following.check()
    assert (slot.served.version, refused()) == ("1", before + 1)  # counted once
    champion.promote(approvals(champion, "alice"))
    following.check()
    assert (slot.served.version, refused(), value("buckler_release_behind")) == ("1", before + 2, 1)
    champion.promote(approvals(champion, "alice", "carol"))
    following.check()
    assert (slot.served.version, slot.served.approved_by) == ("2", ("alice", "carol"))
    assert value("buckler_release_behind") == 0


def test_a_restarted_service_has_the_approvals_without_registry_and_tags(settings, make, monkeypatch):
    champion = make(policy=TWO)
    champion.promote(approvals(champion, "alice", "bob"))
    assert load_served(settings).version == "1"
    for person in ("alice", "bob"):
        MlflowClient().delete_model_version_tag(settings.model_name, "1", APPROVAL_TAG + person)
    assert load_served(settings).approved_by == ("alice", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.releases_dir}/nowhere/mlflow.db")
    assert load_served(settings).approved_by == ("alice", "bob")


def test_a_promotion_without_approvals_in_the_cache_is_not_served(settings, make, monkeypatch):
    champion = make(policy=TWO)
    unapproved = champion.registry.version("1").promotion
    champion.promote(approvals(champion, "alice", "bob"))
    assert load_served(settings).version == "1"
    note = settings.releases_dir / lookup.LAST_GOOD
    note.write_text(json.dumps(json.loads(note.read_text()) | {"promotion": unapproved}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.releases_dir}/nowhere/mlflow.db")
    before = refused()
    assert load_served(settings) is None
    assert refused() == before + 1


def test_removing_an_approver_stops_no_live_model_and_is_told_until_others_approve(settings, make, approvers):
    champion = make(policy=TWO)
    champion.promote(approvals(champion, "alice", "bob"))
    slot, following = begin(settings)
    before = refused()
    (approvers / "bob.pub").unlink()
    following.check()
    assert (slot.served.version, slot.served.withdrawn) == ("1", False)
    assert (refused(), value("buckler_release_behind")) == (before + 1, 1)
    assert load_served(settings) is None  # a restart cannot tell what a thief of bob's key approved
    champion.promote(approvals(champion, "alice", "carol"))
    following.check()
    assert (slot.served.approved_by, value("buckler_release_behind")) == (("alice", "carol"), 0)
    assert load_served(settings).approved_by == ("alice", "carol")


def test_a_directory_of_approvers_that_is_not_clear_stops_no_withdrawal(settings, make, approvers):
    champion = make(policy=TWO)
    champion.promote(approvals(champion, "alice", "bob"))
    slot, following = begin(settings)
    (approvers / "dave.pub").write_text("half a key")
    champion.state(Claim("withdrawn", "0 of 3"))
    following.check()
    assert slot.served.withdrawn
