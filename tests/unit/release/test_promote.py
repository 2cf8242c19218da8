import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from buckler.errors import PromotionRefusedError, RegistryError
from buckler.release.promote import _Mover, rollback
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import Registry, connect
from buckler.trust.promotion import PromotionRecord, read
from buckler.trust.verdict import open_release
from tests import projects
from tests.unit.release.promoted import NOW, at, promote, registry_of

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


def test_a_champion_whose_bytes_were_changed_does_not_block_a_valid_challenger(registry, publish):
    publish(clean=95)
    promote(registry)
    (stored_release(registry, "1") / "model/classifier.keras").write_bytes(b"changed")
    publish(days=1)
    move = promote(registry, days=1)
    assert move.version == "2"
    assert "not compared with the champion, version 1" in move.notes[0]


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


def test_rollback_skips_a_version_whose_verdict_is_not_valid(registry, publish):
    for day in range(3):
        publish(days=day)
        promote(registry, days=day)
    (stored_release(registry, "2") / "verdict.json").unlink()
    move = rollback(registry_of(registry), now=at(3))
    assert move.version == "1"
    assert "version 2" in move.notes[0]


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


def test_a_promotion_fails_if_the_champion_changes_after_the_comparison(registry, publish, monkeypatch):
    publish()
    promote(registry)
    publish(days=1)
    publish(days=2)
    check = _Mover._check_promotable

    def meanwhile(*arguments: object) -> object:
        found = check(*arguments)
        registry_of(registry).set_alias(CHAMPION, "3")
        return found

    monkeypatch.setattr(_Mover, "_check_promotable", meanwhile)
    with pytest.raises(RegistryError, match="changed meanwhile, to version 3"):
        promote(registry, days=2, number="2")
    assert champion(registry) == "3"


def test_two_promotions_at_once_run_one_after_the_other(registry, publish, monkeypatch):
    publish()
    promote(registry)
    publish(days=1)
    publish(days=2, clean=79)
    compared_with, check = [], _Mover._check_promotable

    def slow(mover, candidate):
        compared_with.append(champion(registry))
        time.sleep(0.2)
        return check(mover, candidate)

    monkeypatch.setattr(_Mover, "_check_promotable", slow)
    with ThreadPoolExecutor(2) as pool:
        moves = list(pool.map(lambda number: promote(registry, days=2, number=number), ("2", "3")))
    assert sorted(compared_with) == sorted(move.previous for move in moves)
    assert len(set(compared_with)) == 2
