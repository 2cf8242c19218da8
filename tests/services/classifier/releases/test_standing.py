"""A standing that the watch signs applies to every answer; one with another signature or an older one does not."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buckler.serving import registry
from buckler.trust import standing
from buckler.trust.keys import PRIVATE_KEY_FILE, generate_key_pair, load_private_key
from buckler.trust.standing import Claim
from services.classifier.releases import standing_cache
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings
from tests.services.champions import Champion, forget
from tests.services.registry_models import begin, value
from tests.services.running import Server, serving
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("service_environment")]

DEGRADED, WITHDRAWN = Claim("degraded", "0.1 < 0.3"), Claim("withdrawn", "0.1 < 0.3")


@pytest.fixture
def make(settings: Settings, release: Path, keys: Path, tmp_path: Path) -> Iterator[Callable[..., Champion]]:
    yield lambda **verdict: Champion(settings.model_name, release, keys, tmp_path, **verdict)
    forget(settings.model_name)


def reasons(slot: ModelSlot) -> tuple[str, ...]:
    import numpy as np

    grey = np.full((32, 32, 3), 0.5, np.float32)
    explained, _ = slot.served.predict_and_explain(grey)
    assert explained.reasons == slot.served(grey).reasons
    return explained.reasons


def test_answers_of_a_degraded_version_need_review_until_the_claim_is_lifted(settings, make):
    champion = make()
    slot, following = begin(settings)
    loaded = slot.served.predictor
    assert (slot.served.state, "model_degraded" in reasons(slot)) == ("holds", False)
    champion.state(DEGRADED)
    following.check()
    assert (slot.served.state, "model_degraded" in reasons(slot)) == ("degraded", True)
    assert value("buckler_model_standing", state="degraded") == 1
    assert value("buckler_model_standing", state="holds") == 0
    champion.state(None)
    following.check()
    assert (slot.served.state, "model_degraded" in reasons(slot)) == ("holds", False)
    assert slot.served.predictor is loaded  # nothing was loaded again
    assert value("buckler_model_standing", state="holds") == 1


def test_a_renewal_moves_the_expiry_of_the_verdict(settings, make):
    champion = make(expires_at=datetime.now(UTC) + timedelta(seconds=20))
    slot, following = begin(settings)
    until = datetime.now(UTC) + timedelta(days=30)
    champion.state(None, expires_at=until)
    following.check()
    assert slot.served.expires_at == until
    assert value("buckler_model_verdict_expiry_timestamp_seconds") == until.timestamp()


def test_an_expired_release_serves_again_once_renewed_and_after_a_restart(settings, make):
    champion = make(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    slot, following = begin(settings)
    assert slot.served is None
    champion.state(None, expires_at=datetime.now(UTC) + timedelta(days=30))
    following.check()
    assert slot.served.version == champion.version
    assert "model_degraded" not in reasons(slot)
    again, _ = begin(settings)
    assert again.served.version == champion.version


def test_an_old_standing_that_is_put_back_is_refused_once(settings, make):
    champion = make()
    good = champion.state(None)
    slot, following = begin(settings)
    champion.state(WITHDRAWN)
    following.check()
    assert slot.served.withdrawn
    before = value("buckler_model_refused_total", reason="standing")
    champion.put_back(good)
    following.check()
    following.check()
    assert slot.served.withdrawn
    assert value("buckler_model_refused_total", reason="standing") == before + 1
    registry.connect().delete_model_version_tag(champion.name, champion.version, registry.STANDING_TAG)
    following.check()
    assert slot.served.withdrawn


def test_a_standing_signed_by_another_key_is_refused_and_the_valid_one_stays(settings, make, release, tmp_path):
    champion = make()
    champion.state(DEGRADED)
    slot, following = begin(settings)
    generate_key_pair(tmp_path / "other")
    other = load_private_key(tmp_path / "other" / PRIVATE_KEY_FILE)
    known = standing.read(
        champion.text(),
        champion.trusted.promotion,
        model_name=champion.name,
        version=champion.version,
        registry=champion.registry.id,
    )
    for text in (standing.issue(known.claimed("reevaluate", None), other), "{", "garbage"):
        before = value("buckler_model_refused_total", reason="standing")
        champion.put_back(text)
        following.check()
        assert slot.served.state == "degraded"
        assert value("buckler_model_refused_total", reason="standing") == before + 1
    champion.put_back(standing.issue(known.claimed("reevaluate", None), champion.key))
    following.check()
    assert slot.served.state == "holds"  # signed, with the same number


def test_a_withdrawal_survives_a_restart_without_the_registry(settings, make, monkeypatch):
    champion = make()
    champion.state(WITHDRAWN)
    slot, _ = begin(settings)
    assert slot.served.withdrawn
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{settings.releases_dir}/nowhere/mlflow.db")
    again, _ = begin(settings)
    assert (again.served.version, again.served.withdrawn) == (champion.version, True)


def test_a_restarted_worker_without_its_file_of_standings_needs_review_until_the_registry_was_asked(settings, make):
    champion = make()
    champion.state(WITHDRAWN)
    begin(settings)
    (settings.releases_dir / standing_cache.FILE).unlink()
    slot, following = begin(settings)
    assert slot.served.state == "degraded"
    following.check()
    assert slot.served.withdrawn


def test_the_doubt_ends_with_an_answer_about_the_live_version_only(settings, make):
    """The alias may name another version, whose release cannot be loaded: it says nothing about the live one."""
    champion = make()
    begin(settings)
    champion.state(WITHDRAWN)
    unpromoted = champion.registry.register(f"models:/{champion.name}/{champion.version}", tags={}, description="")
    champion.registry.set_alias("champion", unpromoted)
    slot, following = begin(settings)
    following.check()
    assert slot.served.state == "degraded"
    following._standings.check()
    assert slot.served.withdrawn


def test_another_champion_replaces_a_withdrawn_one_which_stays_withdrawn_in_memory(settings, make):
    champion = make()
    champion.state(WITHDRAWN)
    slot, following = begin(settings)
    first = champion.version
    second = champion.publish(issued_at=datetime(2026, 1, 1, tzinfo=UTC))
    following.check()
    assert (slot.served.version, slot.served.state) == (second, "holds")
    assert value("buckler_model_standing", state="withdrawn") == 0
    assert slot.previous.version == first
    assert slot.previous.withdrawn


def test_the_file_of_standings_is_bounded_and_may_be_damaged(settings, make, monkeypatch):
    monkeypatch.setattr(standing_cache, "KEEP", 2)
    champion = make()
    _, following = begin(settings)
    for moment in range(3):
        champion.publish(issued_at=datetime(2026, 1, 1 + moment, tzinfo=UTC))
        champion.state(DEGRADED)
        following.check()
    path = settings.releases_dir / standing_cache.FILE
    assert list(json.loads(path.read_text())["standings"]) == ["3", "4"]
    path.write_text("{")
    slot, following = begin(settings)
    following.check()  # a worker checks right after its start
    assert slot.served.state == "degraded"


# --- through HTTP


@pytest.fixture(scope="module")
def champion(release: Path, keys: Path, module_tmp_path: Path, service_environment: None) -> Iterator[Champion]:
    yield (champion := Champion("standing-http", release, keys, module_tmp_path))
    forget(champion.name)


@pytest.fixture(scope="module")
def server(champion: Champion, keys: Path, mlflow_database: str, module_tmp_path: Path) -> Iterator[Server]:
    settings = {
        "MLFLOW_TRACKING_URI": mlflow_database,
        "BUCKLER_MODEL_NAME": champion.name,
        "BUCKLER_FOLLOW_SECONDS": "0.3",
        "BUCKLER_FOLLOW_JITTER_SECONDS": "0",
    }
    with serving(module_tmp_path, keys, **settings) as server:
        wait_for(lambda: server.get("/readyz").status_code == 200)
        yield server


def test_a_client_gets_review_then_no_answer_then_answers_again(server: Server, champion: Champion, picture: bytes):
    champion.state(DEGRADED)
    wait_for(lambda: "model_degraded" in server.predict(picture).json()["reasons"])
    assert server.predict(picture).json()["decision"] == "review"
    card = server.get("/model").json()
    assert (card["standing"]["state"], card["standing"]["reasons"]) == ("degraded", ["reevaluate: 0.1 < 0.3"])
    assert "Degraded on" in server.get("/model.html").text

    champion.state(WITHDRAWN)
    wait_for(lambda: server.predict(picture).status_code == 503)
    assert server.predict(picture).json()["error"]["code"] == "model_withdrawn"
    assert server.get("/readyz").status_code == 503
    assert server.get(f"/v2/models/{champion.name}/ready").status_code == 503
    assert "Withdrawn on" in server.get("/model.html").text
    assert server.get("/model").json()["standing"]["state"] == "withdrawn"
    assert 'buckler_model_standing{state="withdrawn"} 1.0' in server.get("/metrics").text

    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    champion.state(None, expires_at=until)
    wait_for(lambda: server.predict(picture).status_code == 200)
    assert "model_degraded" not in server.predict(picture).json()["reasons"]
    assert datetime.fromisoformat(server.get("/model").json()["standing"]["expires_at"]) == until
