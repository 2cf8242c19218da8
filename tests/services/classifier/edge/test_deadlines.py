"""Deadlines of a real server: what is slow has its own code and delays no other client; who leaves is counted."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from buckler.trust import audit_chain
from tests import heavy_pictures
from tests.services.classifier.test_http import error_code, scrape, total
from tests.services.running import TLS, Server, encode, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

DECODE_SECONDS = 0.15


@pytest.fixture(scope="module")
def slow_picture() -> bytes:
    """A picture whose decoding takes several times as long as ``DECODE_SECONDS``."""
    return heavy_pictures.HEAVY["png of 64 megapixels with transparency"]()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[Server]:
    """A server with little time for decoding."""
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_DECODE_TIMEOUT_SECONDS": str(DECODE_SECONDS)}
    with serving(tmp_path_factory.mktemp("hasty"), keys, **settings) as server:
        server.predict(encode("PNG", (40, 40)))
        yield server


def test_a_picture_that_is_slow_to_decode_has_its_own_code(hasty: Server, slow_picture: bytes):
    lines = audit_chain.verify(hasty.audit).lines
    response = hasty.predict(slow_picture)
    assert (response.status_code, error_code(response)) == (422, "decode_timeout")
    assert audit_chain.verify(hasty.audit).lines == lines


def test_several_pictures_are_answered_beside_a_slow_one(hasty: Server, slow_picture: bytes, picture: bytes):
    files = [("image", ("a", each)) for each in (picture, slow_picture, picture)]
    answers = httpx.post(f"{hasty.url}/predict", files=files, timeout=60, verify=TLS).json()["answers"]
    assert [each.get("error", {}).get("code") for each in answers] == [None, "decode_timeout", None]


def test_other_clients_are_answered_while_a_slow_picture_is_decoded(server: Server, slow_picture: bytes):
    small, heavy = encode("PNG", (40, 40)), threading.Thread(target=lambda: server.predict(slow_picture))
    server.predict(small)
    started, seconds = time.monotonic(), []
    heavy.start()
    while heavy.is_alive():
        asked = time.monotonic()
        assert server.predict(small).status_code == 200
        seconds.append(time.monotonic() - asked)
    # With one thread for all pictures, two or three answers would have waited for the slow one.
    assert len(seconds) > 5
    assert sorted(seconds)[len(seconds) // 2] < (time.monotonic() - started) / 3


def test_a_client_that_leaves_before_its_answer_is_counted(server: Server, slow_picture: bytes):
    def left() -> float:
        return total(scrape(server), "buckler_requests_total", endpoint="/predict", code="499")

    before = left()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/predict",
            files={"image": ("a", slow_picture)},
            timeout=httpx.Timeout(5, read=0.05),
            verify=TLS,
        )
    wait_for(lambda: left() == before + 1)
    assert total(scrape(server), "buckler_requests_in_progress") == 0
    assert "Traceback" not in server.log.read_text()
