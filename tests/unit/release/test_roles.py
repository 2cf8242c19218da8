"""Attacks with a key of another role: by whoever has the gate's key, and by whoever has that of the promotions.

The publisher's versions all pass their own gate; 90 right of 100 is significantly better than 75.
"""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import BucklerError, JournalError, PromotionRefusedError, RegistryError
from buckler.release import signing
from buckler.release.assess import Assessor
from buckler.release.promote import promote as promote_release
from buckler.release.promote import rollback
from buckler.release.recover import recover
from buckler.release.restate import restate
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG
from buckler.state import paths
from buckler.trust import keys, promotion, recovery, standing
from buckler.trust.audit import AuditLog
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.recovery import Recovery
from buckler.trust.standing import Claim
from tests import projects
from tests.key_files import write_private
from tests.unit.release.promoted import NOW, at, promote, registry_of

pytestmark = pytest.mark.slow

WITHDRAWN = Claim("withdrawn", "0.1 < 0.3")


@pytest.fixture
def one(registry, publish) -> str:
    """Version 1 is champion; version 2 passed its own gate and is significantly worse."""
    publish(clean=90)
    promote(registry)
    publish(days=1, clean=75)
    return registry


def forged(name: str, number: str, sequence: int = 2) -> str:
    """Return the promotion of a version, signed with the key that signs verdicts."""
    entry = registry_of(name).version(number)
    record = promotion.PromotionRecord(name, number, entry.digest, entry.verdict, NOW, "local", sequence)
    return promotion.issue(record, projects.KEY)


def test_a_promotion_with_the_verdict_key_moves_nothing(one):
    text = forged(one, "2")
    registry_of(one).tag("2", PROMOTION_TAG, text)
    for tag in (PROMOTION_TAG, HEAD_TAG):
        registry_of(one).tag_model(tag, text)
    registry_of(one).set_alias(CHAMPION, "2")
    assert Assessor(registry_of(one), at(1)).champion().codes == ("not_promoted",)
    assert rollback(registry_of(one), now=at(1)).version == "1"
    assert Assessor(registry_of(one), at(1)).champion().reasons == ()
    with pytest.raises(PromotionRefusedError, match="significantly below"):
        promote(one, days=1, number="2")


def test_a_standing_with_the_verdict_key_lifts_no_withdrawal(one):
    withdrawn = restate(registry_of(one), "1", "drift", WITHDRAWN, now=at(1))
    registry_of(one).tag("1", STANDING_TAG, standing.issue(withdrawn.claimed("drift", None), projects.KEY))
    assert Assessor(registry_of(one), at(1)).champion().codes == ("withdrawn", "standing")
    with pytest.raises(PromotionRefusedError, match="is withdrawn"):
        promote(one, days=1, number="1")


def test_a_recovery_with_the_verdict_key_does_not_continue_a_journal(one):
    journal = signing.journal_of(registry_of(one))
    head = AuditLog(journal.path).head()
    record = Recovery(one, "local", NOW, "Mallory", "none", sequence=9, previous=head.digest)
    text = recovery.issue(record, projects.KEY)
    AuditLog(journal.path).append({"record": text}, after=head)
    with pytest.raises(JournalError, match="with a key of another role"):
        promote(one, days=1)
    recover(registry_of(one), person="Jo", reason="a line was added", now=at(1))
    assert [entry.text for entry in journal.read().entries].count(text) == 0


def test_a_version_whose_verdict_the_promotion_key_signed_is_not_promoted(project, registry):
    verdict = projects.build(projects.make_project(project), name=registry, key=projects.PROMOTION_KEY)
    projects.publish(project, verdict, registry)
    with pytest.raises(PromotionRefusedError, match="with a key of another role"):
        promote(registry)


# --- which keys a process has


def write_keys(**files: Ed25519PrivateKey) -> None:
    """Write the private half as ``<name>.pem`` and the public one as ``<name>.pub``."""
    paths.KEYS.mkdir(parents=True)
    for name, key in files.items():
        write_private(paths.KEYS / f"{name}.pem", key)
        (paths.KEYS / f"{name}.pub").write_bytes(PublicKeys.of(key.public_key()).pem)


def test_without_a_promotion_key_the_verdict_key_promotes_and_says_so(project, registry, publish):
    write_keys(verdict=projects.KEY)
    publish()
    notes = promote_release(WritableRegistry(registry), now=at(0)).notes
    assert any("whoever has the gate's key can promote, too" in note for note in notes)
    assert Assessor(WritableRegistry(registry), at(0)).champion().reasons == ()


def test_with_a_promotion_key_of_its_own_no_note_is_needed(project, registry, publish):
    write_keys(verdict=projects.KEY, promotion=projects.PROMOTION_KEY)
    publish()
    assert not any("can promote, too" in note for note in promote_release(WritableRegistry(registry), now=at(0)).notes)


@pytest.mark.parametrize("configured", ["file", "variable"])
def test_where_a_promotion_key_is_trusted_the_verdict_key_does_not_stand_in_for_it(
    project, registry, publish, monkeypatch, configured
):
    write_keys(verdict=projects.KEY, promotion=projects.PROMOTION_KEY)
    (paths.KEYS / "promotion.pem").unlink()
    if configured == "variable":
        moved = (paths.KEYS / "promotion.pub").rename(project / "elsewhere.pub")
        monkeypatch.setenv(keys.PROMOTION_KEY_ENV, str(moved))
    publish()
    with pytest.raises(BucklerError, match="its private half is not here; name it in BUCKLER_PROMOTION_SIGNING_KEY"):
        promote_release(WritableRegistry(registry), now=at(0))
    with pytest.raises(RegistryError):
        registry_of(registry).champion()


def test_a_promotion_key_that_nobody_trusts_signs_nothing(project, registry, publish, monkeypatch):
    write_keys(verdict=projects.KEY, promotion=projects.PROMOTION_KEY)
    write_private(project / "other.pem", Ed25519PrivateKey.generate())
    monkeypatch.setenv(keys.PROMOTION_SIGNING_KEY_ENV, str(project / "other.pem"))
    publish()
    with pytest.raises(BucklerError, match="must belong together"):
        promote_release(WritableRegistry(registry), now=at(0))
    assert not signing.journal_of(WritableRegistry(registry)).exists()


def test_a_renewal_with_several_trusted_keys_is_valid(one, publish):
    both = keys.Keys(
        projects.PROMOTION_KEY,
        TrustedKeys(
            projects.PUBLIC, PublicKeys.of(Ed25519PrivateKey.generate().public_key()).joined(projects.PROMOTION_PUBLIC)
        ),
    )
    until = at(30) + timedelta(days=1)
    restate(WritableRegistry(one, both), "1", "reevaluate", None, expires_at=until, now=at(1))
    assert Assessor(WritableRegistry(one, both), at(1)).champion().standing.expires_at == until
    assert json.loads(registry_of(one).version("1").standing)["signatures"][0]["keyid"] == projects.PROMOTION_PUBLIC.id
