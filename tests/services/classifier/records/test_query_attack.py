"""Black-box attacks against a real server, which flags or refuses them and serves other pictures."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from buckler.attacks.base import Batch, LabelsOnly, ScoresOnly
from buckler.attacks.black_box import HopSkipJump
from buckler.attacks.square import Square
from buckler.modality.base import Radius
from buckler.modality.picture import images, synthetic
from buckler.trust import audit_chain
from tests.services.classifier.test_http import scrape, total
from tests.services.running import IMAGE_SIZE, LABELS, Server, serving

pytestmark = pytest.mark.slow

WITHIN = 50  # queries
QUICK = {"BUCKLER_AUDIT_FSYNC": "interval"}


@pytest.fixture
def fresh(tmp_path: Path, release: Path, keys: Path) -> Iterator[Callable[..., Server]]:
    """Start a service without stored pictures."""
    running = []

    def start(**settings: str) -> Server:
        context = serving(tmp_path, keys, BUCKLER_RELEASE=str(release), **QUICK, **settings)
        running.append(context)
        return context.__enter__()

    yield start
    for context in running:
        context.__exit__(None, None, None)


def lesion(number: int) -> np.ndarray:
    picture = synthetic.draw(LABELS[number % 2], number, seed=1, size=IMAGE_SIZE)
    return images.load_pixels(images.to_png(picture))


class Asked:
    """Scores from a service, and whether each answer had the reason ``query_attack``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.flagged: list[bool] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        answers = [self._server.predict(images.to_png(each)).json() for each in pixels]
        self.flagged += [each["decision"] == "review" and "query_attack" in each["reasons"] for each in answers]
        return np.array([[each["probabilities"][label] for label in LABELS] for each in answers], np.float32)


def attacks_of(server: Server) -> list[dict]:
    lines = [json.loads(line) for line in server.audit.read_text().splitlines()]
    return [line for line in lines if line.get("event") == "query_attack"]


def queries_before(server: Server) -> int:
    """Return how many pictures were answered before the attack was logged."""
    lines = [json.loads(line) for line in server.audit.read_text().splitlines()]
    return next(index for index, line in enumerate(lines) if line.get("event") == "query_attack")


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


def test_a_run_adds_its_own_reason_beside_a_clean_detector(fresh):
    server = fresh(BUCKLER_QUERY_RUN="3")
    wobbly = [np.clip(lesion(0) + number / 255, 0, 1).astype(np.float32) for number in range(3)]
    before, _, answer = [server.predict(images.to_png(each)).json() for each in wobbly]
    assert (before["decision"], before["reasons"]) == ("accept", [])
    assert (answer["decision"], answer["reasons"]) == ("review", ["query_attack"])
    assert answer["detector"]["verdict"] == "clean"
    metrics = scrape(server)
    assert total(metrics, "buckler_decisions_total", decision="review", reason="query_attack") == 1
    assert total(metrics, "buckler_decisions_total", decision="review", reason="adversarial") == 0


@pytest.mark.parametrize("attack", [run_square, run_hop_skip_jump])
def test_an_attack_through_rest_is_detected_within_fifty_queries(fresh, attack):
    server = fresh()
    asked = Asked(server)
    attack(asked, lesion(0))
    assert total(scrape(server), "buckler_query_attacks_total") == 1
    noticed = queries_before(server)
    assert noticed <= WITHIN
    assert asked.flagged[noticed]
    (event,) = attacks_of(server)
    assert (event["client"], event["follows"]) == ("anonymous", "flag")
    assert audit_chain.verify(server.audit).problem is None
    assert "client anonymous sends near-identical pictures" in server.log.read_text()


def test_different_lesions_and_retries_are_not_flagged(fresh):
    server = fresh()
    with httpx.Client() as client:
        for number in range(50):
            picture = images.to_png(lesion(number))
            for _ in range(2):
                assert client.post(f"{server.url}/predict", files={"image": picture}).status_code == 200
    assert total(scrape(server), "buckler_query_attacks_total") == 0
    assert attacks_of(server) == []


def test_only_pictures_of_the_run_are_refused(fresh):
    server = fresh(BUCKLER_QUERY_ATTACK="refuse", BUCKLER_QUERY_RUN="5")
    wobbly = [np.clip(lesion(0) + number / 255, 0, 1).astype(np.float32) for number in range(8)]
    answers = [server.predict(images.to_png(each)) for each in wobbly]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 4
    assert answers[-1].json()["error"]["code"] == "query_attack"
    assert server.predict(images.to_png(lesion(1))).status_code == 200
    assert [each["follows"] for each in attacks_of(server)] == ["refuse"]


def test_turned_off_it_flags_nothing(fresh):
    server = fresh(BUCKLER_QUERY_ATTACK="off", BUCKLER_QUERY_RUN="3")
    for number in range(6):
        server.predict(images.to_png(np.clip(lesion(0) + number / 255, 0, 1).astype(np.float32)))
    assert total(scrape(server), "buckler_query_attacks_total") == 0
