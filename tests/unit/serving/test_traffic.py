"""The record of traffic, on SQLite files and a real PostgreSQL."""

import math
import multiprocessing
import sqlite3
import time
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sql

from buckler.detection.reasons import Reason
from buckler.errors import DatabaseError
from buckler.modality.base import Upload
from buckler.serving import traffic
from buckler.serving.predictor import Prediction
from buckler.serving.traffic import Traffic, TrafficObservation, observe
from tests.databases import PASSWORD, Postgres, postgres
from tests.forms import PICTURE

SIDE = 48


@pytest.fixture(scope="module")
def server():
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/traffic/traffic.db"
    server = request.getfixturevalue("server")
    with Traffic(server.url) as database, database._database.writing() as connection:
        connection.execute(sql.delete(traffic._TABLE))
    return server.url


@pytest.fixture
def database(url):
    with Traffic(url) as database:
        yield database


def seen(moment: float | None = None, **changes: object) -> TrafficObservation:
    numbers = dict.fromkeys(("brightness", "contrast", "red", "green", "blue", "saturation"), 0.5)
    values = {
        "moment": time.time() if moment is None else moment,
        "digest": "sha256:" + "0" * 64,
        **{"width": 640, "height": 480, "size_bytes": 50_000, **numbers, "sharpness": 120.0},
        **{"label": "gutartig – über", "decision": "accept", "score": -2.5},
        **{"confidence": 0.75, "sketch": (0.5, -1.25, 0.0)},
    }
    return TrafficObservation(**{**values, **changes})


def everything(database: Traffic) -> list[TrafficObservation]:
    return database.window(since=0, limit=10**6)


def test_written_observations_are_read_back(database):
    written = [seen(), seen(width=None, height=None, size_bytes=None)]
    database.write(written)
    assert everything(database) == written


def test_a_window_contains_the_newest_in_order(database):
    moments = [100.0, 400.0, 300.0, 200.0]
    database.write([seen(moment) for moment in moments])
    assert [each.moment for each in database.window(since=150, limit=2)] == [300.0, 400.0]
    assert [each.moment for each in database.window(since=150, limit=9)] == [200.0, 300.0, 400.0]
    assert [each.moment for each in database.window(since=150, until=300, limit=9)] == [200.0, 300.0]


def test_old_and_excess_observations_are_deleted(database):
    now = time.time()
    database.write([seen(now - 3 * 86400), seen(now - 86400), *(seen(now + second) for second in range(5))])
    assert database.prune(days=2, rows=100) == 1
    assert database.prune(days=2, rows=4) == 2
    assert [each.moment for each in everything(database)] == [now + second for second in range(1, 5)]
    assert database.prune(days=2, rows=4) == 0


def write_many(url: str, worker: int, start) -> None:
    start.wait()
    with Traffic(url) as database:
        for _ in range(10):
            database.write([seen(digest=f"worker {worker}") for _ in range(20)])


def test_workers_that_start_concurrently_lose_nothing(url):
    context = multiprocessing.get_context("forkserver")  # four processes import this module once
    context.set_forkserver_preload([write_many.__module__])
    start = context.Barrier(4)
    workers = [context.Process(target=write_many, args=(url, number, start)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with Traffic(url) as database:
        digests = [each.digest for each in everything(database)]
    assert {name: digests.count(name) for name in set(digests)} == {f"worker {number}": 200 for number in range(4)}


def test_a_batch_is_written_completely_or_not_at_all(database):
    with pytest.raises(DatabaseError) as caught:
        database.write([seen(), seen(label=None)])
    assert not caught.value.passing
    assert everything(database) == []


def test_a_database_file_that_was_moved_away_is_created_again(tmp_path):
    path = tmp_path / "traffic.db"
    database = Traffic(f"sqlite:///{path}")
    database.write([seen()])
    database.close()
    for file in tmp_path.glob("traffic.db*"):
        file.unlink()
    with pytest.raises(DatabaseError) as caught:
        database.write([seen()])
    assert caught.value.passing
    database.write([seen()])
    assert len(everything(database)) == 1
    database.close()


def test_a_reader_does_not_block_a_writer(tmp_path):
    path = tmp_path / "traffic.db"
    database = Traffic(f"sqlite:///{path}")
    database.write([seen()])
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM buckler_traffic_2").fetchone() == (1,)
    database.write([seen()])
    assert reader.execute("SELECT count(*) FROM buckler_traffic_2").fetchone() == (1,)
    reader.close()
    database.close()


@pytest.mark.slow
def test_an_unreachable_server_is_reported_without_its_password_and_used_again_later(server: Postgres):
    database = Traffic(server.url)
    database.write([seen()])
    server.stop()
    try:
        with pytest.raises(DatabaseError, match="cannot be used") as caught:
            database.write([seen()])
    finally:
        server.start()
    assert caught.value.passing
    assert PASSWORD not in str(caught.value)
    database.write([seen()])
    database.close()


@pytest.mark.slow
def test_a_wrong_password_is_not_quoted(server: Postgres):
    url = server.url.replace(PASSWORD, "hunter2")
    with Traffic(url) as database, pytest.raises(DatabaseError, match="BUCKLER_TRAFFIC_URL") as caught:
        database.write([seen()])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://root:hunter2@host/name", "hunter2", "postgresql://a:hunter2@host:port/name"])
def test_another_kind_of_url_is_refused_without_being_quoted(url):
    with pytest.raises(DatabaseError, match="expected sqlite:///FILE or postgresql") as caught:
        Traffic(url)
    assert "hunter2" not in str(caught.value)


def picture(seed: int = 3) -> np.ndarray:
    """A smooth field with some grain, like a photograph."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0.3, 0.7, SIDE, dtype=np.float32)
    return np.clip(ramp[:, None, None] + generator.normal(0, 0.02, (SIDE, SIDE, 3)), 0, 1).astype(np.float32)


def test_an_observation_contains_no_pixels_and_no_names():
    prediction = Prediction("benign", {"benign": 1.0}, "accept", (), -1.0, 2.0, "clean", sketch=(1.0, 2.0))
    found = observe(Upload(picture(), 1000, 800, 12345), prediction, PICTURE, digest="sha256:1", moment=5.0)
    assert (found.width, found.height, found.size_bytes) == (1000, 800, 12345)
    assert (found.label, found.decision, found.score, found.sketch) == ("benign", "accept", -1.0, (1.0, 2.0))
    sizes = [np.size(getattr(found, name)) for name in TrafficObservation.__dataclass_fields__]
    assert max(sizes) == 2
    assert not {"image", "pixels", "file", "name", "client", "key"} & set(TrafficObservation.__dataclass_fields__)
    assert replace(found, moment=6.0) != found


def test_rows_of_an_hour_keep_their_order(database):
    database.write([seen(7200.0, width=width) for width in range(9)])
    assert [each.width for each in database.window(since=0, limit=4)] == [5, 6, 7, 8]


@pytest.mark.parametrize("damaged", [{"score": math.nan}, {"sketch": (1.0, math.inf)}])
def test_a_measurement_that_is_no_number_is_refused(damaged):
    """It would spoil the pictures that it is mixed with."""
    prediction = replace(Prediction("benign", {"benign": 1.0}, "accept", (), -1.0, 2.0, "clean"), **damaged)
    with pytest.raises(ValueError, match="expected finite measurements"):
        observe(Upload(picture()), prediction, PICTURE, digest="sha256:1")


@pytest.mark.parametrize("reason", [Reason.MODEL_DEGRADED, Reason.QUERY_ATTACK])
def test_only_reasons_from_the_picture_itself_count_for_drift(reason):
    """Otherwise drift that degrades the model would sustain itself."""
    unrelated = Prediction("benign", {"benign": 1.0}, "review", (reason,), -1.0, 2.0, "clean")
    both = unrelated.for_review(Reason.IMAGE_QUALITY)
    upload = Upload(picture())
    assert observe(upload, unrelated, PICTURE, digest="sha256:1").decision == "accept"
    assert observe(upload, both, PICTURE, digest="sha256:1").decision == "review"
