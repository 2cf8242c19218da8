import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from buckler.errors import PromotionRefusedError, RegistryError
from buckler.release import gate
from buckler.release import promote as promoting
from buckler.release.assess import Assessor
from buckler.release.promote import promote as promote_release
from buckler.release.promote import rollback
from buckler.release.restate import restate
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.assessment import ReasonCode
from buckler.serving.registry import VERDICT_TAG, Registry, connect
from buckler.state import paths
from buckler.trust.promotion import PromotionRecord, read
from buckler.trust.standing import WITHDRAWN, Claim
from buckler.trust.verdict import open_release
from tests import artifact_servers, projects
from tests.unit.release.promoted import NOW, at, promote, registry_of
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def champion(name: str) -> str | None:
    found = Registry(name).by_alias(CHAMPION)
    return found.version if found else None


def stored_release(name: str, number: str) -> Path:
    """Return the directory of a version's release in the registry's storage."""
    uri = connect().get_model_version_download_uri(name, number)
    return Path(uri.removeprefix("file://")) / "data" / "release"


def test_a_passing_challenger_becomes_the_first_champion(registry, publish):
    publish()
    move = promote(registry)
    assert (move.version, move.previous, move.changed) == ("1", None, True)
    assert "nothing to compare with" in move.notes[0]
    assert champion(registry) == "1"
    assert (record(registry, "1").moment, record(registry, "1").sequence) == (NOW, 1)


def test_promoting_the_champion_again_changes_nothing(registry, publish):
    publish()
    promote(registry)
    assert not promote(registry, days=1).changed
    assert champion(registry) == "1"


def test_a_failed_gate_is_refused_with_all_its_reasons(registry, publish):
    publish(clean=60, robust=10)
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry)
    assert len(caught.value.failures) == 2
    assert "clean accuracy 0.600 < 0.700" in str(caught.value)
    assert champion(registry) is None


def test_a_challenger_worse_than_the_champion_is_refused_and_the_champion_stays(registry, publish):
    publish(clean=90, robust=60)
    promote(registry)
    publish(days=1, clean=80, robust=40)
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, days=1)
    assert len(caught.value.failures) == 2
    assert "of 100 common pictures it loses 10 and wins 0" in caught.value.failures[0]
    assert champion(registry) == "1"


def test_a_challenger_as_good_as_the_champion_replaces_it(registry, publish):
    publish()
    promote(registry)
    publish(days=1, clean=79)
    move = promote(registry, days=1)
    assert (move.version, move.previous, move.notes) == ("2", "1", ())


def test_a_verdict_that_expired_is_refused(registry, publish):
    publish()
    with pytest.raises(PromotionRefusedError, match="expired"):
        promote(registry, days=31)


def test_an_expired_champion_is_still_compared_with(registry, publish):
    publish(clean=95)
    promote(registry)
    publish(days=40)
    with pytest.raises(PromotionRefusedError, match="significantly below"):
        promote(registry, days=40)


def change(release: Path) -> None:
    (release / "model/classifier.keras").write_bytes(b"changed")


@pytest.mark.parametrize("destroy", [change, shutil.rmtree])
def test_who_destroys_the_champions_files_does_not_prevent_the_comparison(registry, publish, destroy):
    publish(clean=95)
    promote(registry)
    destroy(stored_release(registry, "1"))
    publish(days=1)
    with pytest.raises(PromotionRefusedError, match="significantly below the champion"):
        promote(registry, days=1)
    publish(days=2, clean=95)
    assert promote(registry, days=2).notes == ()


@pytest.mark.parametrize("destroy", [change, shutil.rmtree])
def test_a_champion_without_any_evidence_needs_a_decision_to_do_without(registry, publish, destroy):
    publish(clean=95)
    promote(registry)
    destroy(stored_release(registry, "1"))
    publish(days=1)
    shutil.rmtree(paths.DOWNLOADS)
    with pytest.raises(PromotionRefusedError) as caught:
        promote(registry, days=1)
    assert "not compared with the champion, version 1, whose evidence is not available" in caught.value.failures[0]
    assert "--without-comparison" in caught.value.failures[1]
    assert champion(registry) == "1"
    move = promote_release(registry_of(registry), without_comparison=True, now=at(1))
    assert move.version == "2"
    assert "not compared with the champion, version 1" in move.notes[0]


def test_doing_without_a_comparison_does_not_prevent_one(registry, publish):
    publish(clean=95)
    promote(registry)
    publish(days=1)
    with pytest.raises(PromotionRefusedError, match="significantly below the champion"):
        promote_release(registry_of(registry), without_comparison=True, now=at(1))


def test_a_challenger_whose_bytes_were_changed_in_the_registry_is_refused(registry, publish):
    publish()
    (stored_release(registry, "1") / "model/classifier.keras").write_bytes(b"changed")
    with pytest.raises(PromotionRefusedError, match="differ from the digests in the verdict"):
        promote(registry)


def test_evidence_that_was_changed_in_the_registry_is_refused(registry, publish):
    publish()
    (stored_release(registry, "1") / "evidence/outcomes.csv").write_text("id,label,clean\n")
    with pytest.raises(PromotionRefusedError, match=r"outcomes\.csv"):
        promote(registry)


def test_a_passing_verdict_of_another_model_is_refused(registry, publish, project):
    projects.build(project, name="another", now=NOW)
    kept = shutil.copytree(project / "models/release", project / "kept")
    publish()
    stored = stored_release(registry, "1")
    shutil.rmtree(stored)
    shutil.copytree(kept, stored)
    with pytest.raises(PromotionRefusedError, match="'another'"):
        promote(registry)


def test_a_version_other_than_the_challenger_can_be_promoted(registry, publish):
    publish()
    publish(days=1)
    assert promote(registry, days=1, number="1").version == "1"


def test_without_a_challenger_the_error_names_the_next_step(registry):
    with pytest.raises(RegistryError, match="dvc repro"):
        promote(registry)


def test_a_promotion_killed_before_the_alias_moved_leaves_the_old_champion(registry, publish, monkeypatch):
    publish()
    promote(registry)
    publish(days=1)

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WritableRegistry, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(registry, days=1)
    assert champion(registry) == "1"
    assert promote(registry, days=1).version == "2"


def test_rollback_goes_back_one_champion_at_a_time_until_the_first(registry, publish):
    for day in range(3):
        publish(days=day)
        promote(registry, days=day)
    assert rollback(registry_of(registry), now=at(3)).version == "2"
    move = rollback(registry_of(registry), now=at(3))
    assert (move.version, move.previous) == ("1", "2")
    with pytest.raises(RegistryError, match="no champion before version 1"):
        rollback(registry_of(registry), now=at(3))
    assert champion(registry) == "1"


def test_rollback_passes_over_a_version_without_a_valid_verdict_and_names_it(registry, publish):
    for day in range(3):
        publish(days=day)
        promote(registry, days=day)
    (stored_release(registry, "2") / "verdict.json").unlink()
    shutil.rmtree(paths.DOWNLOADS)
    move = rollback(registry_of(registry), now=at(3))
    assert move.version == "1"
    assert "version 2" in move.notes[0]


def test_rollback_uses_the_signers_copy_of_a_version_whose_files_are_gone(registry, publish):
    for day in range(2):
        publish(days=day)
        promote(registry, days=day)
    shutil.rmtree(stored_release(registry, "1"))
    assert rollback(registry_of(registry), now=at(2)).version == "1"


def test_rollback_skips_a_version_that_was_never_champion(registry, publish):
    publish()
    publish(days=1)
    promote(registry, days=1)
    with pytest.raises(RegistryError, match="it is the first"):
        rollback(registry_of(registry), now=at(1))


def test_rollback_from_a_champion_set_by_hand_goes_to_the_last_promoted_one(registry, publish):
    publish()
    promote(registry)
    publish(days=1)
    registry_of(registry).set_alias(CHAMPION, "2")
    assert rollback(registry_of(registry), now=at(1)).version == "1"


def test_a_version_rolled_back_from_can_be_promoted_again(registry, publish):
    for day in range(2):
        publish(days=day)
        promote(registry, days=day)
    rollback(registry_of(registry), now=at(2))
    assert promote(registry, days=3).version == "2"
    assert rollback(registry_of(registry), now=at(4)).version == "1"


def test_promoting_the_champion_again_signs_a_new_record(registry, publish):
    publish()
    promote(registry)
    before = record(registry, "1").moment
    promote(registry, days=1, number="1")
    assert record(registry, "1").moment == at(1) > before


def record(name: str, number: str) -> PromotionRecord:
    entry = Registry(name).version(number)
    return read(entry.promotion, projects.PROMOTION_PUBLIC, model_name=name, version=number, registry=entry.registry)


def test_each_move_is_signed_and_counts_as_later_even_if_the_clock_was_set_back(registry, publish):
    publish()
    promote(registry, days=1)
    publish(days=1)
    promote(registry, days=1)
    first, second = record(registry, "1"), record(registry, "2")
    assert (first.sequence, second.sequence) == (1, 2)
    rollback(registry_of(registry), now=at(0) + timedelta(hours=1))
    assert (record(registry, "1").sequence, record(registry, "1").rolled_back) == (3, True)
    release_dir = stored_release(registry, "1")
    record(registry, "1").check(open_release(release_dir, projects.PUBLIC))


def test_a_promotion_fails_if_another_machine_moves_the_alias_meanwhile(registry, publish, monkeypatch):
    publish()
    promote(registry)
    publish(days=1)
    publish(days=2)
    decide = gate.decide

    def meanwhile(*arguments: object) -> object:
        registry_of(registry).set_alias(CHAMPION, "3")
        return decide(*arguments)

    monkeypatch.setattr(gate, "decide", meanwhile)
    with pytest.raises(RegistryError, match="changed meanwhile, to version 3"):
        promote(registry, days=2, number="2")
    assert champion(registry) == "3"


def test_of_two_promotions_at_once_the_second_is_compared_with_the_first(registry, publish, monkeypatch):
    publish()
    promote(registry)
    publish(days=1)
    publish(days=2, clean=79)
    compare, both = promoting.champions_evidence, threading.Barrier(2)

    def at_once(model: WritableRegistry, current: PromotionRecord) -> object:
        if current.version == "1":
            both.wait(timeout=120)  # both have the same champion to compare with
        return compare(model, current)

    monkeypatch.setattr(promoting, "champions_evidence", at_once)
    with ThreadPoolExecutor(2) as pool:
        moves = list(pool.map(lambda number: promote(registry, days=2, number=number), ("2", "3")))
    first = {"2": "3", "3": "2"}[champion(registry)]
    assert {move.version: move.previous for move in moves} == {first: "1", champion(registry): first}


def test_a_candidate_from_elsewhere_is_refused_with_its_source(registry, publish):
    publish()
    promote(registry)
    number = str(connect().create_model_version(registry, "s3://elsewhere/1").version)
    with pytest.raises(PromotionRefusedError, match="its source s3://elsewhere/1 is not allowed"):
        promote(registry, number=number)
    assert champion(registry) == "1"


def test_a_champion_whose_source_was_changed_is_not_loaded(registry, publish, mlflow_database):
    publish()
    promote(registry)
    with closing(sqlite3.connect(mlflow_database.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE model_versions SET storage_location = 's3://elsewhere/1' WHERE name = ?", (registry,))
    found = Assessor(registry_of(registry), NOW).champion()
    assert (found.codes, found.may_load) == ((ReasonCode.SOURCE,), False)


def test_a_withdrawal_needs_neither_the_files_of_the_champion_nor_its_tag(registry, publish):
    publish()
    promote(registry)
    shutil.rmtree(stored_release(registry, "1"))
    registry_of(registry).tag("1", VERDICT_TAG, f"sha256:{'0' * 64}")
    withdrawn = restate(registry_of(registry), "1", "reevaluate", Claim(WITHDRAWN, "found unsafe"), now=at(1))
    assert (withdrawn.state, withdrawn.verdict) == (WITHDRAWN, record(registry, "1").verdict)


def test_a_withdrawal_gets_through_while_a_download_stalls(registry, publish, monkeypatch):
    publish()
    promote(registry)
    with artifact_servers.running() as server, ThreadPoolExecutor(2) as pool:
        monkeypatch.setenv("BUCKLER_ARTIFACT_SOURCES", f"{server.url}{artifact_servers.PROXY}")
        server.files["1/data/release/verdict.json"] = b"{}"
        server.answer = server.trickle
        number = str(connect().create_model_version(registry, server.source).version)
        promotion = pool.submit(promote, registry, days=1, number=number)
        wait_for(lambda: len(server.received) > 1)
        claim = Claim(WITHDRAWN, "found unsafe")
        withdrawal = pool.submit(restate, registry_of(registry), "1", "reevaluate", claim, now=at(1))
        try:
            assert withdrawal.result(timeout=120).state == WITHDRAWN
            assert not promotion.done()
        finally:
            server.released.set()
        with pytest.raises(RegistryError, match="cannot be downloaded"):
            promotion.result()
