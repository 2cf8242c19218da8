"""The record of a real service's traffic, which delays no answer."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from starlette.datastructures import Headers

from buckler.client import Client
from buckler.modality.base import Upload
from buckler.serving.api_keys import ApiKey, Role
from buckler.serving.predictor import Prediction
from buckler.serving.settings import WATCH_HEADER
from buckler.serving.traffic import Traffic, TrafficObservation
from buckler.serving.traffic_mixing import GROUP, MOMENT_SECONDS
from services.classifier.records import traffic
from services.classifier.records.traffic import QUEUE, Recorder, is_from_watch
from services.classifier.settings import Settings
from tests.databases import Postgres, postgres
from tests.forms import PICTURE
from tests.services.running import Server, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

ANSWER = Prediction("benign", {"benign": 0.9, "malignant": 0.1}, "accept", (), -1.0, 2.0, "clean", sketch=(1.0, 2.0))
UPLOAD = Upload(np.full((32, 32, 3), 0.5, np.float32), 640, 480, 1000)


def counted(what: str) -> float:
    return REGISTRY.get_sample_value(f"buckler_traffic_{what}_total") or 0


def remembered(url: str) -> list[TrafficObservation]:
    with Traffic(url) as database:
        return database.window(since=0, limit=10**6)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/traffic.db"


@pytest.fixture
def recorder(url: str) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def make(start: bool = True, **settings: object) -> Recorder:
        made.append(Recorder(Settings(**{"traffic_url": url, **settings})))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()
        if each._traffic:
            each._traffic.close()


def send(made: Recorder, count: int, answer: Prediction = ANSWER, upload: Upload = UPLOAD, digest: str = "sha256:1"):
    for _ in range(count):
        made.enqueue(upload, answer, PICTURE, digest)
        while made._queue.qsize() > QUEUE // 2:
            time.sleep(0.001)


# --- the recorder alone


def test_a_complete_group_is_mixed_written_within_seconds_and_counted(recorder, url):
    before = counted("recorded")
    made = recorder()
    send(made, GROUP)
    wait_for(lambda: counted("recorded") == before + GROUP, 5)
    rows = remembered(url)
    assert len(rows) == GROUP
    assert {(row.digest, row.label) for row in rows} == {("sha256:1", "benign")}
    assert {row.moment % MOMENT_SECONDS for row in rows} == {0}
    brightness = {row.brightness for row in rows}
    assert 0.5 not in brightness
    assert len(brightness) == GROUP
    assert np.mean(list(brightness)) == pytest.approx(0.5, abs=0.02)


def test_pictures_of_an_incomplete_group_are_never_written(recorder, url):
    made = recorder()
    send(made, GROUP + 20)
    wait_for(lambda: len(remembered(url)) == GROUP)
    made.stop()
    assert len(remembered(url)) == GROUP


def test_pictures_of_two_models_are_not_mixed(recorder, url):
    made = recorder()
    for _ in range(GROUP):
        send(made, 1)
        send(made, 1, replace(ANSWER, label="malignant"), digest="sha256:2")
    wait_for(lambda: len(remembered(url)) == 2 * GROUP)
    assert {(row.digest, row.label) for row in remembered(url)} == {("sha256:1", "benign"), ("sha256:2", "malignant")}


def test_stopping_writes_the_groups_that_wait(recorder, url):
    made = recorder()
    send(made, GROUP)
    made.stop()
    assert len(remembered(url)) == GROUP


def test_a_full_queue_drops_and_counts_pictures_without_waiting(recorder):
    made = recorder(start=False)
    before, began = counted("dropped"), time.perf_counter()
    for _ in range(QUEUE + 1000):
        made.enqueue(UPLOAD, ANSWER, PICTURE, "sha256:1")
    assert (time.perf_counter() - began) / (QUEUE + 1000) < 0.001
    assert counted("dropped") == before + 1000


def test_rows_are_kept_while_the_database_fails_and_written_afterwards(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "LONGEST_BACKOFF_SECONDS", 0.2)
    monkeypatch.setattr(traffic, "KEPT", kept := 3 * GROUP)
    place = tmp_path / "away"
    place.write_text("a file where the directory should be")
    made = recorder(traffic_url=f"sqlite:///{place}/traffic.db")
    recorded, dropped = counted("recorded"), counted("dropped")
    send(made, kept + 2 * GROUP)
    wait_for(lambda: counted("dropped") == dropped + 2 * GROUP)
    place.unlink()
    wait_for(lambda: counted("recorded") == recorded + kept)
    assert len(remembered(f"sqlite:///{place}/traffic.db")) == kept


def test_a_group_that_cannot_be_written_does_not_block_others(recorder, url):
    made = recorder()
    before = counted("dropped")
    send(made, GROUP, replace(ANSWER, label=None))
    wait_for(lambda: counted("dropped") == before + GROUP)
    send(made, GROUP)
    wait_for(lambda: len(remembered(url)) == GROUP)


@pytest.mark.parametrize("damaged", [Upload(np.zeros((0, 0, 7), np.float32)), Upload(np.full((8, 8, 3), np.nan, "f4"))])
def test_a_picture_that_cannot_be_measured_does_not_block_others(recorder, url, damaged):
    made = recorder()
    before = counted("dropped")
    send(made, 1, upload=damaged)
    send(made, GROUP)
    wait_for(lambda: len(remembered(url)) == GROUP)
    assert counted("dropped") == before + 1


def test_off_records_nothing(recorder, tmp_path):
    made = recorder(traffic_url="off")
    made.enqueue(UPLOAD, ANSWER, PICTURE, "sha256:1")
    assert not list(tmp_path.glob("*.db"))


def test_an_invalid_url_is_reported_without_quoting_it_and_the_service_goes_on(recorder, caplog):
    made = recorder(traffic_url="mysql://root:hunter2@host/name")
    made.enqueue(UPLOAD, ANSWER, PICTURE, "sha256:1")
    assert "no traffic is recorded" in caplog.text
    assert "hunter2" not in caplog.text


def test_rows_over_the_limit_are_deleted(recorder, url, monkeypatch):
    monkeypatch.setattr(traffic, "PRUNE_SECONDS", 0.0)
    made = recorder(traffic_rows=30)
    send(made, GROUP)
    made.stop()
    assert len(remembered(url)) == 30


def test_the_watch_is_recognised_by_its_key_or_without_keys_by_its_header():
    header = Headers({"x-buckler-watch": "probe"})
    keys = [ApiKey("1", name, Role.PREDICT, "0" * 64, "") for name in ("watch", "ward-3")]
    assert is_from_watch(keys[0], Headers({}))
    assert is_from_watch(None, header)
    assert not is_from_watch(None, Headers({}))
    # A client with a key cannot pass for the watch by the header.
    assert not is_from_watch(keys[1], header)


# --- a real server


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, release: Path, keys: Path, database: Postgres) -> Iterator[Server]:
    """A service with two workers that write to PostgreSQL."""
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_WORKERS": "2", "BUCKLER_TRAFFIC_URL": database.url}
    with serving(tmp_path_factory.mktemp("recorded"), keys, **settings) as server:
        yield server


def ask(server: Server, picture: bytes, count: int) -> list[dict]:
    with ThreadPoolExecutor(4) as pool:
        return [each.json() for each in pool.map(lambda _: server.predict(picture), range(count))]


def test_answers_of_all_workers_are_written_in_groups(recorded: Server, database: Postgres, picture: bytes):
    assert recorded.predict(b"hello").status_code == 415
    with Client(recorded.url, headers={WATCH_HEADER: "probe"}) as watch:
        watch.predict(picture)
    answers = ask(recorded, picture, 3 * GROUP)  # whichever worker answers them: one completes a group at least
    wait_for(lambda: len(remembered(database.url)) >= GROUP)
    time.sleep(1.5)
    rows = remembered(database.url)
    assert len(rows) in (GROUP, 2 * GROUP, 3 * GROUP)
    answer = answers[0]
    assert {(row.digest, row.label) for row in rows} == {(answer["model"]["digest"], answer["label"])}
    assert {row.size_bytes == len(picture) for row in rows} == {False}
    assert f"buckler_traffic_recorded_total {len(rows)}.0" in recorded.get("/metrics").text
    assert "buckler_traffic_dropped_total 0.0" in recorded.get("/metrics").text


def test_a_failed_database_affects_no_answer(recorded: Server, database: Postgres, picture: bytes):
    before = len(remembered(database.url))
    database.stop()
    try:
        answers = [recorded.predict(picture) for _ in range(3 * GROUP)]
        wait_for(lambda: "traffic is not recorded" in recorded.log.read_text())
        answers += [recorded.predict(picture) for _ in range(5)]
    finally:
        database.start()
    assert {each.status_code for each in answers} == {200}
    assert max(each.elapsed.total_seconds() for each in answers) < 5
    wait_for(lambda: len(remembered(database.url)) >= before + GROUP, 60)
    assert "buckler_traffic_dropped_total 0.0" in recorded.get("/metrics").text
    assert recorded.log.read_text().count("traffic is not recorded") >= 1
    assert "s3cret" not in recorded.log.read_text()


def test_a_killed_worker_loses_less_than_a_group(recorded: Server, database: Postgres, picture: bytes):
    os.kill(recorded.workers()[0], signal.SIGKILL)
    wait_for(lambda: len(recorded.workers()) == 2)
    before = len(remembered(database.url))
    ask(recorded, picture, 2 * GROUP)  # the other worker, or the new one, completes a group
    wait_for(lambda: len(remembered(database.url)) > before)
    assert (len(remembered(database.url)) - before) % GROUP == 0
