"""The live release while the keys of promotions are replaced, after a thief of the old one wrote the registry."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buckler.release.promote import rollback
from buckler.release.retire import retire_promotion_key
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG
from buckler.trust import promotion, rotation, standing
from buckler.trust.journal import JOURNAL_ENV
from buckler.trust.keys import PROMOTIONS, load_private_key, load_public_keys
from buckler.trust.promotion import PromotionRecord
from buckler.trust.standing import Claim
from services.classifier.releases.follower import Follower, follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings
from tests.key_files import public_env, signing_env
from tests.services.champions import Champion, forget
from tests.services.running import load_served

pytestmark = pytest.mark.slow

WITHDRAWN = Claim("withdrawn", "0.1 < 0.3")
GOOD, WEAK = "1", "2"


@pytest.fixture
def directory(keys: Path, mlflow_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the keys, which service and signer use."""
    directory = Path(shutil.copytree(keys, tmp_path / "keys"))
    for variable, value in (public_env(directory) | signing_env(directory, PROMOTIONS)).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv(JOURNAL_ENV, str(tmp_path / "signed"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    monkeypatch.chdir(tmp_path)
    return directory


@pytest.fixture
def champion(directory: Path, release: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Champion]:
    """Version 2 was withdrawn and rolled back to version 1."""
    champion = Champion(f"rotated-{abs(hash(request.node.name)):x}", release, directory, tmp_path)
    champion.publish()
    champion.state(WITHDRAWN, "drift")
    rollback(champion.registry)
    yield champion
    forget(champion.name)


def serving(name: str, directory: Path) -> tuple[Settings, ModelSlot, Follower]:
    settings = Settings(model_name=name, releases_dir=directory, follow_seconds=0.2, follow_jitter_seconds=0)
    slot = ModelSlot()
    return settings, slot, follow(settings, slot)


def steal(champion: Champion) -> None:
    """Lift the withdrawal of version 2 and promote it, with the stolen key and high numbers."""
    registry = champion.registry
    entry = registry.version(WEAK)
    record = PromotionRecord(entry.model, WEAK, entry.digest, entry.verdict, datetime.now(UTC), registry.id, 900)
    found = standing_of(champion, champion.trusted.promotion)
    texts = {
        PROMOTION_TAG: promotion.issue(record, champion.key),
        STANDING_TAG: standing.issue(replace(found, claims={}, sequence=901), champion.key),
    }
    for tag, text in texts.items():
        registry.tag(WEAK, tag, text)
    registry.tag_model(PROMOTION_TAG, texts[PROMOTION_TAG])
    registry.tag_model(HEAD_TAG, texts[STANDING_TAG])
    registry.set_alias(CHAMPION, WEAK)


def standing_of(champion: Champion, public: object) -> standing.Standing:
    entry = champion.registry.version(WEAK)
    return standing.read(entry.standing, public, model_name=champion.name, version=WEAK, registry=champion.registry.id)


def test_what_a_thief_signed_ends_when_the_service_gets_the_new_key(champion, directory, tmp_path, monkeypatch):
    settings, slot, following = serving(champion.name, tmp_path / "releases")
    following.check()
    assert slot.served.version == GOOD
    steal(champion)
    following.check()
    assert (slot.served.version, slot.served.withdrawn) == (WEAK, False)  # the thief's

    (old,) = load_public_keys(directory / PROMOTIONS.public_file).ids
    shutil.copyfile(directory / PROMOTIONS.public_file, directory / "old.pub")
    rotation.switch(PROMOTIONS, rotation.begin(PROMOTIONS).waiting[0])
    retire_promotion_key(WritableRegistry(champion.name), old)
    with monkeypatch.context() as behind:  # a service that has the old key alone
        behind.setenv(PROMOTIONS.public_env, str(directory / "old.pub"))
        following.check()
        assert slot.served.version == WEAK
    following.check()
    assert slot.served.version == GOOD
    assert load_served(settings).version == GOOD  # a restarted worker
    champion.registry.set_alias(CHAMPION, WEAK)
    following.check()
    assert slot.served.version == GOOD
    assert standing_of(champion, load_public_keys(directory / PROMOTIONS.public_file)).claims == {"drift": WITHDRAWN}


def test_a_service_follows_every_step_of_a_rotation(champion, directory, tmp_path):
    _, slot, following = serving(champion.name, tmp_path / "releases")
    registry = WritableRegistry(champion.name)
    (old,) = load_public_keys(directory / PROMOTIONS.public_file).ids
    following.check()
    for step in (
        lambda: rotation.begin(PROMOTIONS),
        lambda: rotation.switch(PROMOTIONS, rotation.Pair.of(PROMOTIONS).waiting[0]),
        lambda: retire_promotion_key(registry, old),
    ):
        step()
        following.check()
        assert (slot.served.version, slot.served.withdrawn) == (GOOD, False)
        assert following._refused is None
    new = load_private_key(Path(os.environ[PROMOTIONS.signing_env]))
    champion.registry = WritableRegistry(champion.name)
    champion.version = GOOD
    champion.state(WITHDRAWN)
    following.check()
    assert slot.served.withdrawn
    assert load_public_keys(directory / PROMOTIONS.public_file).contain(new.public_key())
