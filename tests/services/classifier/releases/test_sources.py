"""A champion whose source is not allowed or stalls: the live model answers on, and its withdrawal takes effect."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from buckler.release.signing import signing
from buckler.trust.standing import WITHDRAWN, Claim
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings
from tests import artifact_servers
from tests.artifact_servers import ArtifactServer
from tests.services.champions import Champion, forget
from tests.services.registry_models import begin, refused
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_environment")]


@pytest.fixture
def champion(settings: Settings, release: Path, keys: Path, tmp_path: Path) -> Iterator[Champion]:
    yield Champion(settings.model_name, release, keys, tmp_path)
    forget(settings.model_name)


@pytest.fixture
def server() -> Iterator[ArtifactServer]:
    with artifact_servers.running() as server:
        server.files["1/data/release/verdict.json"] = b"{}"
        server.answer = server.trickle
        yield server


def promote(champion: Champion, slot: ModelSlot, source: str) -> None:
    """Register a version with ``source`` and promote it."""
    number = str(MlflowClient().create_model_version(champion.name, source).version)
    with signing(champion.registry) as signer:
        signer.promote(champion.registry.version(number), slot.served.predictor.verdict)


def test_a_withdrawal_takes_effect_while_the_download_of_the_next_champion_stalls(
    settings, champion, server, monkeypatch
):
    slot, following = begin(settings)
    monkeypatch.setenv("BUCKLER_ARTIFACT_SOURCES", f"{server.url}{artifact_servers.PROXY}")
    promote(champion, slot, server.source)
    following.start()
    try:
        wait_for(lambda: len(server.received) > 1)
        champion.state(Claim(WITHDRAWN, "0.1 < 0.3"))
        wait_for(lambda: slot.served.withdrawn)
        assert slot.served.version == champion.version
    finally:
        following.stop()
        server.released.set()


def test_a_champion_from_elsewhere_is_refused_and_its_source_is_not_asked(settings, champion, server):
    slot, following = begin(settings)
    promote(champion, slot, server.source)
    before = refused("source")
    following.check()
    assert (slot.served.version, refused("source")) == (champion.version, before + 1)
    assert server.received == []


def test_a_source_that_stalls_delays_the_follower_no_longer_than_its_deadline(settings, champion, server, monkeypatch):
    slot, following = begin(settings)
    monkeypatch.setenv("BUCKLER_ARTIFACT_SOURCES", f"{server.url}{artifact_servers.PROXY}")
    monkeypatch.setenv("BUCKLER_DOWNLOAD_SECONDS", "1")
    promote(champion, slot, server.source)
    before = refused("unavailable")
    following.check()
    assert (slot.served.version, refused("unavailable")) == (champion.version, before + 1)
    assert not list(settings.releases_dir.glob(".incoming-*"))


def test_a_withdrawal_that_arrived_during_a_download_applies_to_what_was_downloaded(settings, champion, monkeypatch):
    slot, following = begin(settings)
    first = champion.version
    second = champion.publish()
    admitted = Follower._admitted

    def slow(self: Follower, check: object) -> object:
        found = admitted(self, check)
        champion.state(Claim(WITHDRAWN, "0.1 < 0.3"))
        return found

    monkeypatch.setattr(Follower, "_admitted", slow)
    following.check()
    assert first != second
    assert (slot.served.version, slot.served.withdrawn) == (second, True)
