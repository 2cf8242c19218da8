"""The live release while a real MLflow registry changes: the champion, else the last good one."""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks.signing import write_verdict
from buckler.release import tracking
from buckler.serving import selftest
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import PROMOTION_TAG, connect
from buckler.trust import digests
from buckler.trust.verdict import MODEL_DIR
from services.classifier.releases import follower, lookup
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.served import Candidate
from services.classifier.settings import Settings
from tests.services.champions import forget
from tests.services.registry_models import BEGIN, Maker, RegistryModel, begin, refused, settings_in, value
from tests.services.running import load_served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_environment")]


def test_a_tampered_champion_is_refused_and_the_last_good_one_serves(settings, registry, make, monkeypatch):
    before = refused("unavailable")
    assert load_served(settings) is None  # no champion yet
    assert refused("unavailable") == before + 1

    good = make("good")
    first = registry.publish(good)
    served = load_served(settings)
    assert served is not None
    assert served.version == first
    assert served.predictor.digest == digests.directory_digest(good / MODEL_DIR)

    tampered = make("tampered")
    second = registry.register(tampered)
    registry.promote(tampered, second)
    stored = connect().get_model_version_download_uri(settings.model_name, second).removeprefix("file://")
    (Path(stored) / "data/release/model/detector.json").write_text("{}")
    before = refused("digest")
    served = load_served(settings)
    assert served is not None
    assert (served.version, second) == (first, "2")
    assert refused("digest") == before + 1
    (kept,) = (path for path in settings.releases_dir.iterdir() if path.is_dir())
    assert digests.directory_digest(kept) == digests.directory_digest(good)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.releases_dir}/nowhere/mlflow.db")
    served = load_served(settings)
    assert served is not None
    assert served.version == first


def test_a_last_good_release_that_was_changed_on_disk_is_refused(settings, registry, make):
    registry.publish(make("good"))
    assert load_served(settings) is not None
    connect().delete_registered_model_alias(settings.model_name, CHAMPION)
    assert load_served(settings) is not None
    for path in settings.releases_dir.glob("sha256-*/model/detector.json"):
        path.write_text("{}")
    assert load_served(settings) is None


def test_a_new_champion_becomes_live_and_a_roll_back_comes_from_memory(settings, registry, make, monkeypatch):
    one, two = make("one"), make("two", issued_at=BEGIN)
    first = registry.publish(one)
    slot, following = begin(settings)
    old = slot.served
    fetched, remembered = (value("buckler_release_swaps_total", model=origin) for origin in ("fetched", "memory"))

    second = registry.publish(two)
    following.check()
    assert (slot.served.version, slot.previous) == (second, old)
    assert value("buckler_release_swaps_total", model="fetched") == fetched + 1
    labels = {"model": settings.model_name, "digest": old.predictor.digest}
    assert value("buckler_model_info", version=first, **labels) == 0
    assert value("buckler_model_info", version=second, **labels) == 1

    monkeypatch.setattr(follower, "load", lambda *_: pytest.fail("loaded again"))
    registry.promote(one, first)
    following.check()
    assert slot.served.predictor is old.predictor
    assert value("buckler_release_swaps_total", model="memory") == remembered + 1
    assert lookup.last_good(settings, registry.trusted)[0].version == first


def test_the_previous_model_is_released_after_its_time(settings, registry, make):
    settings = settings.model_copy(update={"previous_model_seconds": 0.0})
    registry.publish(make("one"))
    slot, following = begin(settings)
    registry.publish(make("two", issued_at=BEGIN))
    following.check()
    assert (slot.served.version, slot.previous) == ("2", None)


def by_hand_to_a_version_without_promotion(registry: RegistryModel, make) -> None:
    registry.point_to(registry.register(make("other", issued_at=BEGIN)))


def by_hand_to_a_version_that_failed(registry: RegistryModel, make) -> None:
    failed = make("failed", passed=False, reasons=("weak",))
    registry.promote(failed, registry.register(failed))


def back_by_hand_to_a_replaced_version(registry: RegistryModel, make) -> None:
    registry.point_to("1")


def with_the_promotion_of_another_version(registry: RegistryModel, make) -> None:
    version = registry.register(make("other", issued_at=BEGIN))
    model = tracking.WritableRegistry(registry.name)
    model.tag(version, PROMOTION_TAG, model.version("2").promotion)
    registry.point_to(version)


def to_another_models_release(registry: RegistryModel, make) -> None:
    other = make("other")
    write_verdict(other, make.keys, "lungs")
    registry.promote(other, registry.register(other))


def to_one_that_computes_differently(registry: RegistryModel, make) -> None:
    other = make("other")
    with np.load(other / "model" / selftest.FILE) as arrays:
        changed = dict(arrays)
    for name in changed:
        if name.startswith("expected_"):
            changed[name][0, 0] += 1
    np.savez(other / "model" / selftest.FILE, **changed)
    write_verdict(other, make.keys, registry.name)
    registry.promote(other, registry.register(other))


def to_one_without_reference_pictures(registry: RegistryModel, make) -> None:
    other = make("other")
    (other / "model" / selftest.FILE).unlink()
    write_verdict(other, make.keys, registry.name)
    registry.promote(other, registry.register(other))


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (by_hand_to_a_version_without_promotion, "not_promoted"),
        (by_hand_to_a_version_that_failed, "failed"),
        (back_by_hand_to_a_replaced_version, "superseded"),
        (with_the_promotion_of_another_version, "not_promoted"),
        (to_another_models_release, "other_model"),
        (to_one_that_computes_differently, "self_test"),
        (to_one_without_reference_pictures, "self_test"),
    ],
)
def test_an_inadmissible_champion_is_refused_once_and_the_live_model_stays(
    standing: "Standing", release: Path, keys: Path, tmp_path: Path, move, reason
):
    good, before = standing.slot.served, refused(reason)
    move(standing.registry, Maker(release, keys, tmp_path, standing.settings.model_name))
    for _ in range(3):
        standing.following.check()
    assert standing.slot.served is good
    assert refused(reason) == before + 1
    assert value("buckler_release_behind") == 1

    standing.registry.promote(standing.release, good.version)
    standing.following.check()
    assert standing.slot.served.predictor is good.predictor  # live again without being loaded
    assert value("buckler_release_behind") == 0


class Standing(NamedTuple):
    """A service that follows a registry in which version 2 replaced version 1."""

    settings: Settings
    registry: RegistryModel
    release: Path
    slot: ModelSlot
    following: Follower


@pytest.fixture(scope="module")
def standing(release: Path, keys: Path, service_environment: None, module_tmp_path: Path) -> Iterator[Standing]:
    settings = settings_in(module_tmp_path, "standing")
    registry, make = (
        RegistryModel(settings.model_name, keys),
        Maker(release, keys, module_tmp_path, settings.model_name),
    )
    registry.publish(make("one", issued_at=(BEGIN - timedelta(days=1))))
    two = make("two")
    registry.publish(two)
    yield Standing(settings, registry, two, *begin(settings))
    forget(settings.model_name)


def test_a_restarted_worker_remembers_the_newest_promotion(settings, registry, make):
    registry.publish(make("one", issued_at=BEGIN))
    registry.publish(make("two"))
    assert load_served(settings).version == "2"
    registry.point_to("1")
    before = refused("superseded")
    assert load_served(settings).version == "2"
    assert refused("superseded") == before + 1


def test_a_restarted_worker_serves_before_it_asks_the_registry(settings, registry, make, monkeypatch):
    one = make("one")
    registry.publish(one)
    load_served(settings)
    monkeypatch.setattr(lookup, "named", lambda *_: pytest.fail("asked"))
    slot, following = begin(settings)
    assert (slot.served.version, slot.served.state) == ("1", "degraded")  # it may have been withdrawn since
    monkeypatch.undo()
    following.check()
    assert (slot.served.version, slot.served.state) == ("1", "holds")


def test_a_refused_release_is_tried_again_when_its_entry_changes(settings, registry, make):
    registry.publish(make("one"))
    slot, following = begin(settings)
    two = make("two", issued_at=BEGIN)
    second = registry.register(two)
    registry.point_to(second)
    following.check()
    assert slot.served.version == "1"
    registry.promote(two, second)
    following.check()
    assert slot.served.version == second
    assert value("buckler_release_behind") == 0


def test_a_failing_download_is_tried_again_with_growing_pauses(settings, registry, make, monkeypatch):
    registry.publish(make("one"))
    slot, following = begin(settings)
    registry.publish(make("two", issued_at=BEGIN))
    tries = []

    def broken(*_: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    clock = [1000.0]
    monkeypatch.setattr(follower.time, "monotonic", lambda: clock[0])
    with monkeypatch.context() as patch:
        patch.setattr(lookup, "fetched", broken)
        following.check()
        following.check()
        assert len(tries) == 1
        clock[0] += 2 * settings.follow_seconds
        following.check()
        clock[0] += 2 * settings.follow_seconds
        following.check()
        assert len(tries) == 2
    clock[0] += 4 * settings.follow_seconds
    following.check()
    assert slot.served.version == "2"


def test_the_thread_follows_the_registry(settings, registry, make):
    slot, following = begin(settings)
    assert slot.served is None
    following.start()
    registry.publish(make("one"))
    deadline = time.monotonic() + 60
    while slot.served is None and time.monotonic() < deadline:
        time.sleep(0.1)
    following.stop()
    assert slot.served.version == "1"
    assert value("buckler_release_check_timestamp_seconds") > 0


def test_a_directory_is_followed_and_an_invalid_new_release_leaves_the_old_one_live(settings, keys, make):
    place = make("place")
    settings = settings.model_copy(update={"release": place})
    slot, following = begin(settings)
    first = slot.served
    following.check()
    assert slot.served is first

    write_verdict(place, keys, settings.model_name, passed=False, reasons=("weak",))
    before = refused("failed")
    following.check()
    assert (slot.served, refused("failed")) == (first, before + 1)

    write_verdict(place, keys, settings.model_name)
    following.check()
    assert slot.served.predictor.verdict.id != first.predictor.verdict.id


def test_a_slow_worker_does_not_replace_the_note_of_a_newer_champion(settings, registry, make):
    settings.releases_dir.mkdir()
    releases = {registry.publish(made): made for made in (make("one", issued_at=BEGIN), make("two"))}
    for version in ("2", "1"):
        place = Path(shutil.copytree(releases[version], settings.releases_dir / f".incoming-{version}" / "release"))
        record = tracking.WritableRegistry(settings.model_name).version(version).promotion
        lookup.keep(Candidate(place, version, record), settings)
    assert lookup.last_good(settings, registry.trusted)[0].version == "2"


def test_files_of_a_killed_download_are_removed_later(settings, registry, make):
    registry.publish(make("one"))
    left, fresh = (settings.releases_dir / f".incoming-{name}" for name in ("killed", "other-worker"))
    for place in (left, fresh):
        place.mkdir(parents=True)
    old = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(left, (old, old))
    load_served(settings)
    assert (left.exists(), fresh.exists()) == (False, True)
