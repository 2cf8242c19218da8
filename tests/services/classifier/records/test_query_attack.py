"""Black-box attacks: a real server flags them, and a service may also refuse them or not look."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from buckler.attacks.base import Batch, LabelsOnly, ScoresOnly
from buckler.attacks.black_box import HopSkipJump
from buckler.attacks.square import Square
from buckler.modality.base import Radius
from buckler.modality.picture import images, synthetic
from buckler.serving import api_keys
from buckler.serving.api_keys import ApiKey, Role
from buckler.serving.predictor import Predictor
from buckler.serving.query_monitor import QueryRules
from buckler.trust import audit_chain
from buckler.trust.keys import PUBLIC_KEY_FILE, load_public_keys
from services.classifier.contract import RefusalError
from services.classifier.served import Served
from services.classifier.service import ClassifierService
from services.classifier.settings import Settings
from tests.services.classifier.test_http import scrape, total
from tests.services.running import IMAGE_SIZE, LABELS, Server, serving

pytestmark = pytest.mark.slow

WITHIN = 50  # queries
CLIENTS = ("wobbler", "run_square", "run_hop_skip_jump", "ward")


class Caller:
    """A client of a server with its own key: runs of other clients do not count as its own."""

    def __init__(self, server: Server, key: ApiKey, secret: str, operator: str) -> None:
        self.server, self.id = server, key.id
        self._secret, self._operator = secret, operator

    def predict(self, pixels: np.ndarray) -> dict:
        response = self.server.predict(images.to_png(pixels), authorization=f"Bearer {self._secret}")
        assert response.status_code == 200
        return response.json()

    def counted(self, name: str, **labels: str) -> float:
        return total(scrape(self.server, authorization=f"Bearer {self._operator}"), name, **labels)

    def lines(self) -> list[dict]:
        """Return the client's lines of the audit log."""
        lines = map(json.loads, self.server.audit.read_text().splitlines())
        return [line for line in lines if line["client"] == self.id]


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[dict[str, Caller]]:
    """A client for each of ``CLIENTS``."""
    directory = tmp_path_factory.mktemp("flagging")
    ring = directory / "api.json"
    made = {name: api_keys.create(ring, role=Role.PREDICT, name=name) for name in CLIENTS}
    _, operator = api_keys.create(ring, role=Role.OPERATE, name="prometheus")
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(ring),
        "BUCKLER_KEY_REQUESTS_PER_SECOND": "1000",
        "BUCKLER_AUDIT_FSYNC": "interval",
    }
    with serving(directory, keys, **settings) as server:
        yield {name: Caller(server, *pair, operator) for name, pair in made.items()}


def lesion(number: int) -> np.ndarray:
    picture = synthetic.draw(LABELS[number % 2], number, seed=1, size=IMAGE_SIZE)
    return images.load_pixels(images.to_png(picture))


def wobbly(number: int, count: int) -> list[np.ndarray]:
    """Return copies of one lesion with slightly different light, as a trembling hand takes them."""
    return [np.clip(lesion(number) + each / 255, 0, 1).astype(np.float32) for each in range(count)]


class Asked:
    """Scores from a service, and whether each answer had the reason ``query_attack``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.flagged: list[bool] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        answers = [self._caller.predict(each) for each in pixels]
        self.flagged += [each["decision"] == "review" and "query_attack" in each["reasons"] for each in answers]
        return np.array([[each["probabilities"][label] for label in LABELS] for each in answers], np.float32)


def attacks_in(lines: list[dict]) -> list[dict]:
    return [line for line in lines if line.get("event") == "query_attack"]


def run_square(scores: Callable[[np.ndarray], np.ndarray], picture: np.ndarray) -> None:
    truth = scores(picture[None]).argmax(axis=1)
    Square(queries=WITHIN, early_exit=False)(ScoresOnly(scores), Batch(picture[None], truth), Radius(8 / 255))


def run_hop_skip_jump(scores: Callable[[np.ndarray], np.ndarray], picture: np.ndarray) -> None:
    # Random weights give all pictures the same label, so the boundary is set to the median of the first answers.
    middle = scores(np.stack([picture, 1 - picture])).mean(axis=0)[0]
    truth = scores(picture[None])[:, 0] > middle
    HopSkipJump(queries=WITHIN).search(
        LabelsOnly(lambda asked: scores(asked)[:, 0] > middle, 2), Batch(picture[None], truth)
    )


def test_a_run_adds_its_own_reason_beside_a_clean_detector(callers):
    caller = callers["wobbler"]
    *before, answer = [caller.predict(each) for each in wobbly(0, QueryRules().run)]
    assert {(each["decision"], *each["reasons"]) for each in before} == {("accept",)}
    assert (answer["decision"], answer["reasons"]) == ("review", ["query_attack"])
    assert answer["detector"]["verdict"] == "clean"
    assert caller.counted("buckler_decisions_total", decision="review", reason="query_attack") == 1
    assert caller.counted("buckler_decisions_total", decision="review", reason="adversarial") == 0


@pytest.mark.parametrize("attack", [run_square, run_hop_skip_jump])
def test_an_attack_through_rest_is_detected_within_fifty_queries(callers, attack):
    caller = callers[attack.__name__]
    asked, before = Asked(caller), caller.counted("buckler_query_attacks_total")
    attack(asked, lesion(0))
    assert caller.counted("buckler_query_attacks_total") == before + 1
    lines = caller.lines()
    (event,) = attacks_in(lines)
    noticed = lines.index(event)
    assert noticed <= WITHIN
    assert asked.flagged[noticed]
    assert event["follows"] == "flag"
    assert audit_chain.verify(caller.server.audit).problem is None
    assert f"client {caller.id} sends near-identical pictures" in caller.server.log.read_text()


def test_different_lesions_and_retries_are_not_flagged(callers):
    caller = callers["ward"]
    before = caller.counted("buckler_query_attacks_total")
    for number in range(50):
        for _ in range(2):
            caller.predict(lesion(number))
    assert caller.counted("buckler_query_attacks_total") == before
    assert attacks_in(caller.lines()) == []


# --- without a server


@pytest.fixture
def ask(release: Path, keys: Path, tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Send pictures to a service with the given settings; return the code of each refusal, or the decision."""
    predictor = Predictor.load(release, load_public_keys(keys / PUBLIC_KEY_FILE))
    started = []

    def ask(pictures: list[np.ndarray], **settings: object) -> list[str]:
        chosen = Settings(audit_log=tmp_path / "audit.jsonl", traffic_url="off", **settings)
        started.append(ClassifierService(chosen, Served(predictor, "skin-lesion", "3")))
        found = []
        for each in pictures:
            (tmp_path / "image").write_bytes(images.to_png(each))
            try:
                found.append(asyncio.run(started[-1].predict(tmp_path / "image")).decision)
            except RefusalError as refusal:
                found.append(refusal.code)
        return found

    yield ask
    for service in started:
        service.stop()


def test_only_pictures_of_the_run_are_refused(ask, tmp_path):
    found = ask([*wobbly(0, 8), lesion(1)], query_attack="refuse", query_run=5)
    assert found == ["accept"] * 4 + ["query_attack"] * 4 + ["accept"]
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert [each["follows"] for each in attacks_in(list(lines))] == ["refuse"]


def test_turned_off_it_flags_nothing(ask):
    assert ask(wobbly(0, 6), query_attack="off", query_run=3) == ["accept"] * 6
