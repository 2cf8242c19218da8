"""A real server that receives hostile bytes: no 5xx, no crash, bounded memory, other clients served meanwhile."""

import io
import json
import os
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from services.classifier.endpoints import ENDPOINTS
from services.classifier.settings import Settings
from tests import heavy_pictures, malformed
from tests.services.classifier.test_http import error_code, scrape, total
from tests.services.running import Server, encode
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

LIMIT = Settings().body_limit_bytes
MEMORY_MB = 700  # of a worker, above its memory at rest
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=b"}


def workers(server: Server) -> list[psutil.Process]:
    """Return the workers' processes, found by their unique BENTOML_HOME."""
    mine = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if process.environ().get("BENTOML_HOME") == str(server.home):
                mine.append(process)
        except (psutil.Error, OSError):
            continue
    return mine


@contextmanager
def bounded(server: Server, megabytes: int = MEMORY_MB) -> Iterator[None]:
    """Fail if the workers use ``megabytes`` more than now at any time, or were replaced."""
    processes = workers(server)
    assert processes
    highest, stop = 0, threading.Event()

    def used() -> int:
        return sum(process.memory_info().rss for process in processes) // 2**20

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.02):
            highest = max(highest, used())

    before = used()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    print(f"memory: {before} MB at rest, at most {highest} MB")  # noqa: T201 - the figure of the threat model
    assert highest - before < megabytes
    assert {process.pid for process in workers(server)} == {process.pid for process in processes}


@contextmanager
def others_served(server: Server, *, within: float = 10) -> Iterator[list[float]]:
    """Send a good picture repeatedly; fail if an answer is an error or takes too long."""
    picture, stop = encode("JPEG", (160, 120)), threading.Event()
    seconds: list[float] = []
    bad: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            started = time.monotonic()
            response = server.predict(picture)
            seconds.append(time.monotonic() - started)
            bad.extend([response.text] if response.status_code != 200 else [])
            stop.wait(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()
    assert bad == []
    assert seconds
    assert max(seconds) < within


def test_no_file_of_the_corpus_causes_a_5xx_or_a_leak(exposed: Server):
    codes = set()
    with bounded(exposed), httpx.Client(timeout=60) as client:
        for name, content in malformed.corpus().items():
            response = client.post(f"{exposed.url}/predict", files={"image": ("Erika.jpg", content)})
            assert response.status_code < 500, name
            codes.add("answered" if response.status_code == 200 else error_code(response))
            assert "Muster" not in response.text, name
    assert codes == {"answered", "image_empty", "image_unreadable", "image_unsupported", "image_too_large"}
    texts = (exposed.log.read_text(), exposed.get("/metrics").text, exposed.audit.read_text())
    assert not any(word in text for text in texts for word in ("Muster", "Erika", "Traceback", "Warning:"))


@pytest.mark.parametrize("name", heavy_pictures.HEAVY)
def test_a_heavy_file_is_answered_in_bounded_memory_while_others_are_served(exposed: Server, name: str):
    content = heavy_pictures.HEAVY[name]()
    assert len(content) < LIMIT + 2_000_000
    with bounded(exposed), others_served(exposed):
        response = exposed.predict(content)
    assert response.status_code < 500


def test_decompression_bombs_are_decoded_one_at_a_time(exposed: Server):
    bomb = heavy_pictures.HEAVY["png of 64 megapixels with transparency"]()
    statuses = []
    with bounded(exposed):
        threads = [
            threading.Thread(target=lambda: statuses.append(exposed.predict(bomb).status_code)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # 504 if the queue is longer than the time for an answer.
    assert len(statuses) == 3
    assert set(statuses) <= {200, 504}
    # A large picture is answered only after the last bomb, whose memory the next test would count.
    buffer = io.BytesIO()
    Image.new("RGB", (3700, 3700), "salmon").save(buffer, "JPEG")
    wait_for(lambda: exposed.predict(buffer.getvalue()).status_code == 200)


def poured(size: int) -> Iterator[bytes]:
    yield FORM_HEAD
    for _ in range(size // 2**20):
        yield bytes(2**20)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_two_hundred_megabytes_are_refused_while_others_are_served(exposed: Server, announced: bool):
    headers = FORM | ({"content-length": str(len(FORM_HEAD) + 200 * 2**20)} if announced else {})
    with bounded(exposed, 80), others_served(exposed):  # of 200; two bodies up to the limit, and the others'
        for _ in range(3):
            try:
                response = httpx.post(
                    f"{exposed.url}/predict", content=poured(200 * 2**20), headers=headers, timeout=60
                )
            except (httpx.WriteError, httpx.ReadError):
                continue  # answered and closed while httpx was still sending
            assert error_code(response) == "body_too_large"


def test_a_thousand_and_one_parts_are_refused_while_others_are_served(exposed: Server):
    part = b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n'
    with bounded(exposed, 60), others_served(exposed):
        for content in (
            1001 * part + b"--b--\r\n",
            1001 * FORM_HEAD,
            150_000 * part,
            b"--b\r\n" + 9_000_000 * b"X-A: b\r\n",
        ):
            response = httpx.post(f"{exposed.url}/predict", content=content[:LIMIT], headers=FORM, timeout=60)
            assert 400 <= response.status_code < 500
            error_code(response)


def test_slow_bodies_delay_no_other_client(exposed: Server):
    def trickle() -> Iterator[bytes]:
        for piece in (FORM_HEAD, *(30 * [b"x"])):
            yield piece
            time.sleep(0.5)

    codes = []

    def send() -> None:
        try:
            codes.append(httpx.post(f"{exposed.url}/predict", content=trickle(), headers=FORM, timeout=60).status_code)
        except httpx.TransportError:
            codes.append(408)  # answered while httpx was still sending

    with bounded(exposed, 60), others_served(exposed):
        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == 20 * [408]


def test_metric_labels_come_from_closed_sets_after_these_attacks(exposed: Server):
    samples = scrape(exposed)
    assert {dict(labels)["endpoint"] for name, labels in samples if name == "buckler_requests_total"} <= set(
        ENDPOINTS.labels
    )
    server_errors = {
        dict(labels)["code"] for (name, labels), value in samples.items() if name == "buckler_requests_total" and value
    }
    assert {code for code in server_errors if code >= "500"} <= {"504"}
    assert total(samples, "buckler_requests_total", code="500") == 0
    assert all(
        "answer" in json.loads(line) or "event" in json.loads(line) for line in exposed.audit.read_text().splitlines()
    )


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("kind", ["application/vnd.bentoml+pickle", "application/octet-stream"])
def test_no_path_unpickles_a_request(server, tmp_path, kind):
    """BentoML's runner servers unpickle requests (CVE-2024-9070), and so do its services that others call."""
    trace = tmp_path / "unpickled"
    headers = {"content-type": kind, "args-number": "2", "payload-container": "DefaultContainer", "payload-meta": "{}"}
    # With one argument, its pickle; with several, pickled parameters.
    for body in (pickle.dumps(Command(trace)), pickle.dumps({"args": Command(trace)})):
        for path in ("/", "/__batch_infer__", *sorted({path for row in ENDPOINTS for path in row.paths})):
            answer = httpx.post(f"{server.url}{path}", content=body, headers=headers, timeout=60)
            assert 400 <= answer.status_code < 500, path
    assert not trace.exists()
