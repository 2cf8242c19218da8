"""What a service does not load: records of another key, of another registry, of the cache, or put back."""

import json
import shutil
from datetime import UTC, datetime

import pytest

from benchmarks.signing import write_verdict
from buckler.release import tracking
from buckler.release.signing import signing
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG
from buckler.trust import promotion
from buckler.trust.keys import PRIVATE_KEY_FILE, PROMOTION_PRIVATE_FILE, load_private_key
from buckler.trust.promotion import PromotionRecord
from buckler.trust.verdict import open_release
from services.classifier.releases import lookup
from services.classifier.settings import Settings
from tests.services.registry_models import BEGIN, RegistryModel, begin, refused, value
from tests.services.running import load_served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_environment")]


def test_a_promotion_with_the_verdict_key_changes_nothing(settings, registry, make, keys):
    first = registry.publish(make("one", issued_at=BEGIN))
    slot, following = begin(settings)
    following.check()
    second = registry.register(release := make("two"))
    entry = tracking.WritableRegistry(settings.model_name).version(second)
    judged = open_release(release, registry.trusted.verdict)
    record = PromotionRecord(
        entry.model, second, judged.subject_digest, judged.id, datetime.now(UTC), entry.registry, sequence=9
    )
    text = promotion.issue(record, load_private_key(keys / PRIVATE_KEY_FILE))
    registry.write_promotion(second, text)
    registry.point_to(second)
    before = refused("not_promoted")
    following.check()
    assert (slot.served.version, refused("not_promoted")) == (first, before + 1)
    assert load_served(settings).version == first  # a restarted worker


def test_a_verdict_with_the_promotion_key_is_refused(settings, registry, make, keys, tmp_path):
    first = registry.publish(make("one", issued_at=BEGIN))
    slot, following = begin(settings)
    following.check()
    (tmp_path / "thief").mkdir()
    shutil.copy(keys / PROMOTION_PRIVATE_FILE, tmp_path / "thief" / PRIVATE_KEY_FILE)
    write_verdict(release := make("two"), tmp_path / "thief", settings.model_name)
    second = registry.register(release, tags=False)
    with signing(tracking.WritableRegistry(settings.model_name, registry.keys)) as signer:
        signer.promote(signer.registry.version(second), open_release(release, registry.trusted.promotion))
    before = refused("signature")
    following.check()
    assert (slot.served.version, refused("signature")) == (first, before + 1)


# --- whoever writes the cache


def note_of(settings: Settings, **changes: str) -> None:
    """Change what the cache says about the last good release."""
    path = settings.releases_dir / lookup.LAST_GOOD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_time_in_the_cache_does_not_refuse_the_true_champion(settings, registry, make):
    registry.publish(make("one", issued_at=BEGIN))
    load_served(settings)
    note_of(settings, promoted_at="9999-01-01T00:00:00+00:00")
    second = registry.publish(make("two"))
    _, following = begin(settings)
    following.check()
    assert following.slot.served.version == second


def test_another_signed_release_is_not_served_under_the_number_of_the_last_good_one(
    settings, registry, make, monkeypatch
):
    weak = make("weak", issued_at=BEGIN)
    registry.register(weak)  # its verdict is valid, and nobody promoted it
    registry.publish(make("two"))
    load_served(settings)
    shutil.copytree(weak, settings.releases_dir / "sha256-weak")
    note_of(settings, release="sha256-weak")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.releases_dir}/nowhere/mlflow.db")
    before = refused("not_promoted")
    assert load_served(settings) is None
    assert refused("not_promoted") == before + 1


# --- whoever writes the registry


def test_a_new_service_does_not_take_a_version_that_was_rolled_back_and_set_back_by_hand(settings, registry, make):
    one, two = make("one", issued_at=BEGIN), make("two")
    registry.publish(one)
    registry.publish(two)
    registry.promote(one, "1")
    registry.point_to("2")
    before = refused("superseded")
    assert load_served(settings) is None
    assert refused("superseded") == before + 1


def test_a_record_of_staging_does_not_work_in_production(settings, registry, make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("BUCKLER_REGISTRY_ID", "staging")
        RegistryModel(settings.model_name, make.keys).publish(make("one"))
    before = refused("not_promoted")
    assert load_served(settings) is None
    assert refused("not_promoted") == before + 1


def test_a_registry_that_was_put_back_changes_nothing_until_its_records_are_there_again(settings, registry, make):
    one, two = make("one", issued_at=BEGIN), make("two")
    registry.publish(one)
    model = tracking.WritableRegistry(settings.model_name)
    earlier = model.version("1")
    registry.publish(two)
    slot, following = begin(settings)
    following.check()
    assert slot.served.version == "2"
    latest = model.version("2")

    before = refused("put_back")
    for tag, text in ((PROMOTION_TAG, earlier.latest), (HEAD_TAG, earlier.head)):
        model.tag_model(tag, text)
    registry.point_to("1")
    for _ in range(2):
        following.check()
    assert (slot.served.version, refused("put_back")) == ("2", before + 1)
    assert value("buckler_release_behind") == 1
    restarted, again = begin(settings)
    again.check()
    assert (restarted.served.version, refused("put_back")) == ("2", before + 2)

    for tag, text in ((PROMOTION_TAG, latest.latest), (HEAD_TAG, latest.head)):
        model.tag_model(tag, text)
    registry.point_to("2")
    following.check()
    assert value("buckler_release_behind") == 0
