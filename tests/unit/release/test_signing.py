"""Attacks on what the signer signs next: by whoever writes the registry, and by whoever writes the signer's disk.

The publisher's versions all pass their own gate; 90 right of 100 is significantly better than 75.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import BucklerError, JournalError, PromotionRefusedError, RegistryError
from buckler.release import signing
from buckler.release.assess import Assessor
from buckler.release.promote import rollback
from buckler.release.recover import recover
from buckler.release.restate import restate
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG, connect
from buckler.state import paths
from buckler.trust import promotion, standing
from buckler.trust.journal import Journal
from buckler.trust.keys import Keys
from buckler.trust.signed import Records
from buckler.trust.standing import Claim
from tests import projects
from tests.unit.release.promoted import NOW, at, promote, registry_of

pytestmark = pytest.mark.slow

WITHDRAWN = Claim("withdrawn", "0.1 < 0.3")


@pytest.fixture
def two(registry, publish) -> str:
    """Version 1 and the better version 2 were promoted in turn."""
    publish()
    promote(registry)
    publish(days=1, clean=90)
    promote(registry, days=1)
    return registry


def journal(name: str) -> Path:
    return signing.journal_of(registry_of(name)).path


def delete_tag(name: str, number: str, tag: str) -> None:
    connect().delete_model_version_tag(name, number, tag)


def delete_alias(name: str) -> None:
    connect().delete_registered_model_alias(name, CHAMPION)


def champion(name: str) -> str:
    return registry_of(name).champion().version


# --- whoever writes the registry


def test_a_tag_does_not_make_a_refused_version_a_former_champion(two, publish):
    publish(days=2, clean=75)
    with pytest.raises(PromotionRefusedError, match="significantly below"):
        promote(two, days=2)
    registry_of(two).tag("3", "buckler.promoted_at", at(0).isoformat())
    registry_of(two).tag("3", PROMOTION_TAG, registry_of(two).version("2").promotion)
    assert rollback(registry_of(two), now=at(2)).version == "1"
    with pytest.raises(RegistryError, match="no champion before version 1"):
        rollback(registry_of(two), now=at(2))


def test_a_deleted_withdrawal_still_stands_and_is_written_again(two):
    restate(registry_of(two), "2", "reevaluate", WITHDRAWN, now=at(2))
    delete_tag(two, "2", STANDING_TAG)
    assert Assessor(registry_of(two), at(2)).champion().codes == ("withdrawn",)
    with pytest.raises(PromotionRefusedError, match="is withdrawn: reevaluate"):
        promote(two, days=2, number="2")
    after = restate(registry_of(two), "2", "canary", None, expires_at=at(60), now=at(2))
    assert (after.state, after.reasons) == ("withdrawn", ("reevaluate: 0.1 < 0.3",))
    entry = registry_of(two).version("2")
    shown = standing.read(
        entry.standing, projects.PROMOTION_PUBLIC, model_name=two, version="2", registry=entry.registry
    )
    assert shown == after


def test_an_older_standing_that_is_put_back_lifts_nothing(two):
    restate(registry_of(two), "2", "drift", None, now=at(2))
    before = registry_of(two).version("2").standing
    restate(registry_of(two), "2", "reevaluate", WITHDRAWN, now=at(2))
    registry_of(two).tag("2", STANDING_TAG, before)
    assert restate(registry_of(two), "2", "drift", None, now=at(3)).state == "withdrawn"


def test_without_the_alias_a_worse_version_is_refused_and_the_registry_is_named(two, publish):
    publish(days=2, clean=75)
    delete_alias(two)
    with pytest.raises(PromotionRefusedError, match="the champion is none instead of version 2") as caught:
        promote(two, days=2)
    assert "`buckler promote --version 2`" in caught.value.failures[-1]
    promote(two, days=2, number="2")
    with pytest.raises(PromotionRefusedError, match="significantly below"):
        promote(two, days=2, number="3")


def hide_the_promotion(name: str) -> None:
    delete_tag(name, "2", PROMOTION_TAG)


def put_an_older_promotion_back(name: str) -> None:
    registry_of(name).tag_model(PROMOTION_TAG, registry_of(name).version("1").promotion)


def hide_the_head(name: str) -> None:
    connect().delete_registered_model_tag(name, HEAD_TAG)


def move_the_alias(name: str) -> None:
    registry_of(name).set_alias(CHAMPION, "1")


def delete_the_version(name: str) -> None:
    connect().delete_model_version(name, "2")


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (hide_the_promotion, "lacks record 2 (tag buckler.promotion)"),
        (put_an_older_promotion_back, "the model lacks record 2 (tag buckler.promotion)"),
        (hide_the_head, "the model lacks record 2 (tag buckler.head)"),
        (move_the_alias, "the champion is version 1 instead of version 2"),
        (delete_the_version, "version 2 is gone"),
    ],
)
def test_a_registry_that_lacks_what_was_signed_is_refused_named_and_reported(two, publish, harm, named):
    publish(days=2, clean=90)
    harm(two)
    with pytest.raises(PromotionRefusedError) as caught:
        promote(two, days=2, number="3")
    assert named in str(caught.value)
    assert any(named in sentence for sentence in signing.compare(registry_of(two)).registry)
    assert restate(registry_of(two), "1", "canary", WITHDRAWN, now=at(2)).state == "withdrawn"  # is never refused


@pytest.mark.parametrize("harm", [hide_the_promotion, put_an_older_promotion_back, hide_the_head, move_the_alias])
def test_a_promotion_of_the_champion_writes_everything_again(two, harm):
    harm(two)
    assert promote(two, days=2, number="2").version == "2"
    assert signing.compare(registry_of(two)) == signing.Comparison((), ())
    assert Assessor(registry_of(two), at(2)).champion().reasons == ()


def test_a_version_that_was_rolled_back_stays_superseded_with_its_old_records_and_alias(two):
    """The case of a roll-back after an incident, undone by hand; also for a machine without the journal."""
    old = registry_of(two).version("2").promotion
    rollback(registry_of(two), now=at(2))
    registry_of(two).set_alias(CHAMPION, "2")
    assert registry_of(two).version("2").promotion == old
    journal(two).rename(journal(two).with_suffix(".elsewhere"))
    assert Assessor(registry_of(two), at(2)).champion().codes == ("superseded",)


def test_rollback_returns_to_the_promoted_version_if_the_alias_was_moved_by_hand(two):
    registry_of(two).set_alias(CHAMPION, "1")
    move = rollback(registry_of(two), now=at(2))
    assert (move.version, move.previous) == ("2", "1")
    assert "version 1 was not promoted" in move.notes[0]


def test_a_reused_number_inherits_nothing(two, publish):
    restate(registry_of(two), "1", "drift", WITHDRAWN, now=at(2))
    connect().delete_registered_model(two)
    publish(days=3, clean=75)
    with pytest.raises(PromotionRefusedError, match="version 1 has the verdict"):
        promote(two, days=3)
    found = restate(registry_of(two), "1", "canary", None, now=at(3))
    assert (found.state, found.claims) == ("holds", {})  # the withdrawal was of another release
    with pytest.raises(RegistryError, match="to roll back to"):
        rollback(registry_of(two), now=at(3))


def test_records_of_staging_do_not_work_in_production(registry, publish, monkeypatch):
    publish()
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", "staging")
    promote(registry)
    restate(registry_of(registry), "1", "canary", None, expires_at=at(300), now=at(1))
    monkeypatch.setenv("BUCKLER_REGISTRY_ID", "production")  # its registry has copies of all that staging has
    found = Assessor(registry_of(registry), at(40)).champion()
    assert found.codes == ("expired", "not_promoted", "standing")
    assert "was signed for the registry 'staging', this is 'production'" in str(found.reasons)


# --- whoever writes the signer's disk


def cut(name: str, lines: int) -> None:
    """Cut the last lines off the journal, which leaves a valid chain."""
    kept = journal(name).read_bytes().splitlines(keepends=True)[:-lines]
    journal(name).write_bytes(b"".join(kept))


def every_signature(name: str) -> list[Callable[[], object]]:
    return [
        lambda: promote(name, days=3, number="2"),
        lambda: rollback(registry_of(name), now=at(3)),
        lambda: restate(registry_of(name), "2", "canary", None, now=at(3)),
    ]


def test_cutting_the_withdrawal_off_the_end_stops_signing_until_a_person_recovers(two):
    restate(registry_of(two), "2", "reevaluate", WITHDRAWN, now=at(2))
    cut(two, 1)
    for sign in every_signature(two):
        with pytest.raises(JournalError, match=r"ends with record 2 and lacks record 3.*buckler trust recover"):
            sign()
    (problem,) = signing.compare(registry_of(two)).journal
    assert "lacks record 3" in problem

    found = recover(registry_of(two), person="Jo", reason="disk full", now=at(3))
    assert "withdrawn  version 2: reevaluate: 0.1 < 0.3" in found.lines
    assert restate(registry_of(two), "2", "canary", None, now=at(3)).sequence == 5
    with pytest.raises(PromotionRefusedError, match="is withdrawn"):
        promote(two, days=3, number="2")
    assert rollback(registry_of(two), now=at(3)).version == "1"


def test_the_watch_has_seen_what_journal_and_registry_lost(two):
    before = registry_of(two).champion()
    restate(registry_of(two), "2", "reevaluate", WITHDRAWN, now=at(2))
    cut(two, 1)
    delete_tag(two, "2", STANDING_TAG)
    registry_of(two).tag_model(HEAD_TAG, before.head)
    for sign in every_signature(two):
        with pytest.raises(JournalError, match="lacks record 3"):
            sign()
    recover(registry_of(two), person="Jo", reason="disk full", now=at(3))
    assert Assessor(registry_of(two), at(3)).champion().codes == ("withdrawn",)


def test_a_watch_without_a_journal_reports_a_registry_that_was_put_back(two):
    signing.compare(registry_of(two))
    delete_tag(two, "2", PROMOTION_TAG)
    registry_of(two).tag_model(HEAD_TAG, registry_of(two).version("1").promotion)
    journal(two).unlink()
    public = registry_of(two).__class__(two, Keys())  # no private key on this machine
    (paths.KEYS).mkdir(parents=True)
    from buckler.trust import keys

    (paths.KEYS / keys.PUBLIC_KEY_FILE).write_bytes(projects.PUBLIC.pem)
    (paths.KEYS / keys.PROMOTION_PUBLIC_FILE).write_bytes(projects.PROMOTION_PUBLIC.pem)
    found = signing.compare(public)
    assert (found.registry, found.journal) == (
        ("the registry 'local' ends with record 1, record 2 was seen before",),
        (),
    )


def test_a_lost_journal_is_continued_from_what_the_registry_has(two):
    restate(registry_of(two), "1", "drift", WITHDRAWN, now=at(2))
    delete_tag(two, "1", PROMOTION_TAG)
    journal(two).unlink()
    with pytest.raises(JournalError, match="ends with record 0 and lacks records 2, 3"):
        promote(two, days=3, number="2")
    found = recover(registry_of(two), person="Jo", reason="new machine", now=at(3))
    assert found.lines[0] == "champion   version 2, record 2"
    assert "missing    records 1: nobody has them" in found.lines[-1]
    assert (found.records.last.record.person, found.records.last.record.sequence) == ("Jo", 4)
    assert promote(two, days=3, number="2").version == "2"
    with pytest.raises(RegistryError, match="no champion before version 2"):
        rollback(registry_of(two), now=at(3))


def test_a_complete_journal_is_not_recovered_and_a_person_is_named(two):
    with pytest.raises(BucklerError, match="nothing to recover"):
        recover(registry_of(two), person="Jo", reason="to be sure", now=at(3))
    with pytest.raises(BucklerError, match="expected a name and a reason"):
        recover(registry_of(two), person=" ", reason="to be sure", now=at(3))


def test_a_journal_that_was_changed_is_moved_aside_and_its_valid_records_are_kept(two):
    restate(registry_of(two), "2", "reevaluate", WITHDRAWN, now=at(2))
    lines = journal(two).read_text().splitlines(keepends=True)
    journal(two).write_text("".join([lines[0].replace("payload", "Payload"), *lines[1:]]))
    with pytest.raises(JournalError, match="is not valid"):
        rollback(registry_of(two), now=at(3))
    recover(registry_of(two), person="Jo", reason="edited", now=at(3))
    assert [path.name for path in journal(two).parent.glob("*.damaged.*")] == [
        f"{journal(two).name}.damaged.20260104T000000"
    ]
    assert Assessor(registry_of(two), at(3)).champion().codes == ("withdrawn",)
    assert rollback(registry_of(two), now=at(3)).version == "1"


def test_two_journals_for_one_registry_are_noticed(two, monkeypatch, tmp_path):
    monkeypatch.setenv("BUCKLER_SIGNING_JOURNAL", str(tmp_path / "another machine"))
    for sign in every_signature(two):
        with pytest.raises(JournalError, match="another machine signs for the registry 'local'"):
            sign()


def test_a_promotion_interrupted_after_the_journal_can_be_finished(two, publish, monkeypatch):
    publish(days=2, clean=90)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry_of(two).__class__, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(two, days=2, number="3")
    assert champion(two) == "2"
    assert Assessor(registry_of(two), at(2)).records().champion.version == "3"
    assert Assessor(registry_of(two), at(2), signed=Records()).champion().reasons == ()  # for a service
    assert promote(two, days=2, number="3").version == "3"
    assert rollback(registry_of(two), now=at(3)).version == "2"


def test_a_promotion_killed_at_any_step_is_finished_by_whatever_is_signed_next(two, publish, monkeypatch):
    publish(days=2, clean=90)
    for step in ("tag", "set_alias", "tag_model"):

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(registry_of(two).__class__, step, killed)
            with pytest.raises(KeyboardInterrupt):
                promote(two, days=2, number="3")
        service = Assessor(registry_of(two), at(2), signed=Records()).champion()
        assert (service.reasons, service.version.version in "23") == ((), True)
        restate(registry_of(two), "1", "canary", None, now=at(3))
        assert champion(two) == "3"
        assert signing.compare(registry_of(two)) == signing.Comparison((), ())
        assert rollback(registry_of(two), now=at(4)).version == "2"


# --- records of earlier versions of the product


def sign_as_before(name: str, number: str) -> None:
    """Leave what the version of the product before signed promotions had a number wrote."""
    from buckler.trust.document import SignedDocument
    from buckler.trust.promotion import PromotionRecord

    entry = registry_of(name).version(number)
    record = PromotionRecord(name, number, entry.digest, entry.verdict, NOW)
    sealed = SignedDocument("promotion", PromotionRecord).sign(record, {name: entry.digest}, projects.PROMOTION_KEY)
    registry_of(name).tag(number, PROMOTION_TAG, json.dumps(sealed))
    registry_of(name).set_alias(CHAMPION, number)


def test_after_an_upgrade_the_signed_history_is_taken_over_and_the_champion_promoted_again(registry, publish):
    publish(clean=90)
    publish(days=1, clean=75)
    sign_as_before(registry, "1")
    with pytest.raises(JournalError, match="take them over with `buckler trust recover --by NAME --reason upgrade`"):
        promote(registry, days=1, number="2")
    recover(registry_of(registry), person="Jo", reason="upgrade", now=at(1))
    assert Assessor(registry_of(registry), at(1)).champion().codes == ("not_promoted",)
    with pytest.raises(PromotionRefusedError, match="significantly below"):
        promote(registry, days=1, number="2")
    promote(registry, days=1, number="1")
    assert Assessor(registry_of(registry), at(1)).champion().reasons == ()


def test_records_of_another_key_are_not_taken_over(registry, publish):
    publish()
    publish(days=1)
    stranger = Ed25519PrivateKey.generate()
    entry = registry_of(registry).version("2")
    record = promotion.PromotionRecord(registry, "2", entry.digest, entry.verdict, NOW, "local", 7)
    registry_of(registry).tag("2", PROMOTION_TAG, promotion.issue(record, stranger))
    registry_of(registry).set_alias(CHAMPION, "2")
    promote(registry, days=1, number="1")
    assert Journal(registry, "local", projects.PROMOTION_PUBLIC).read().highest == 1
