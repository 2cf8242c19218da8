"""Attacks that a service cannot detect, as the threat model states: each needs more than one of its witnesses."""

import shutil
from pathlib import Path

import pytest

from buckler.release import tracking
from buckler.release.restate import restate
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG, connect
from buckler.trust.standing import Claim
from services.classifier.settings import Settings
from tests.services.registry_models import BEGIN, begin
from tests.services.running import load_served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_environment")]

WITHDRAWN = Claim("withdrawn", "0.1 < 0.3")


def put_the_registry_back(name: str, number: str) -> None:
    """Leave what the registry had when version ``number`` was promoted."""
    model = tracking.WritableRegistry(name)
    for tag in (PROMOTION_TAG, HEAD_TAG):
        model.tag_model(tag, model.version(number).promotion)
    model.set_alias("champion", number)


def test_a_service_that_lost_its_cache_believes_a_registry_that_was_put_back(settings, registry, make):
    registry.publish(make("one", issued_at=BEGIN))
    registry.publish(make("two"))
    assert load_served(settings).version == "2"
    put_the_registry_back(settings.model_name, "1")
    assert load_served(settings).version == "2"  # its cache has seen more
    shutil.rmtree(settings.releases_dir)
    assert load_served(settings).version == "1"


def test_a_service_that_lost_its_cache_does_not_know_a_withdrawal_that_was_deleted(settings, registry, make):
    registry.publish(make("one"))
    signer = tracking.WritableRegistry(settings.model_name, registry.keys)
    restate(signer, "1", "reevaluate", WITHDRAWN)
    assert load_served(settings).withdrawn
    connect().delete_model_version_tag(settings.model_name, "1", STANDING_TAG)
    assert load_served(settings).withdrawn
    shutil.rmtree(settings.releases_dir)
    assert not load_served(settings).withdrawn
    restate(signer, "1", "canary", None)  # whatever is signed next writes it again
    assert load_served(settings).withdrawn


def test_an_earlier_state_of_the_whole_cache_serves_until_the_registry_is_asked(
    settings: Settings,
    registry,
    make,
    tmp_path: Path,
):
    registry.publish(make("one", issued_at=BEGIN))
    load_served(settings)
    shutil.copytree(settings.releases_dir, tmp_path / "earlier")
    registry.publish(make("two"))
    assert load_served(settings).version == "2"
    shutil.rmtree(settings.releases_dir)
    (tmp_path / "earlier").rename(settings.releases_dir)
    slot, following = begin(settings)
    assert (slot.served.version, slot.served.state) == ("1", "degraded")
    following.check()
    assert slot.served.version == "2"
