"""Slow clients of a real server: their connections are closed in time, and other clients are served meanwhile."""

import re
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.services.classifier.edge.timeouts import BODY_SECONDS, HEAD_SECONDS, SEND_SECONDS
from tests.services.classifier.test_http import error_code, scrape, total
from tests.services.running import Server, encode, serving

pytestmark = pytest.mark.slow

HALF_OPEN = 800
LATE = 3.0  # seconds that a busy machine may add
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def connect(server: Server, first: bytes = b"", receive_buffer: int | None = None) -> socket.socket:
    url = httpx.URL(server.url)
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect((url.host, url.port))
    connection.sendall(first)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection, after any answer."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def seconds_until_closed(trickles: Mapping[socket.socket, bytes], most: float = 30) -> dict[socket.socket, float]:
    """Send each connection's bytes repeatedly until the server closes it; return the seconds that each was open."""
    started = time.monotonic()
    closed: dict[socket.socket, float] = {}
    while time.monotonic() - started < most:
        for connection, trickle in trickles.items():
            if connection in closed:
                continue
            if is_closed(connection):
                closed[connection] = time.monotonic() - started
            else:
                with suppress(OSError):
                    connection.send(trickle)
        if len(closed) == len(trickles):
            return closed
        time.sleep(0.1)
    raise AssertionError(f"{len(trickles) - len(closed)} connections are still open after {most} s")


def dropped(server: Server, reason: str) -> float:
    return total(scrape(server), "buckler_connections_dropped_total", reason=reason)


def test_eight_hundred_half_open_connections_block_no_client_and_end_in_time(exposed: Server, picture: bytes):
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(exposed, HEAD)) for _ in range(HALF_OPEN)]
        opened = time.monotonic()
        waited, left = [], sockets
        while left and time.monotonic() < opened + HEAD_SECONDS + LATE:
            for number, each in enumerate(left):
                with suppress(OSError):  # already closed
                    each.send(b"X-Slow-%d: 1\r\n" % number)
            started = time.monotonic()
            assert exposed.predict(picture).status_code == 200
            waited.append(time.monotonic() - started)
            left = [each for each in left if not is_closed(each)]
        assert left == []
        assert max(waited) < 5
    assert exposed.get("/readyz").status_code == 200
    assert dropped(exposed, "slow_head") + dropped(exposed, "too_many") >= HALF_OPEN
    assert dropped(exposed, "too_many") >= HALF_OPEN - 512


def test_connections_without_a_complete_head_are_closed(exposed: Server):
    answered = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    cases = {
        "silent": (b"", b""),
        "half a request line": (b"GET / HT", b""),
        "one header after the other": (HEAD, b"X-A: 1\r\n"),
        "no request line at all": (b"", b"\r"),
        "idle after an answer": (answered, b""),
        "slow second request": (answered, b"G"),
    }
    with ExitStack() as stack:
        names, trickles = {}, {}
        for name, (first, trickle) in cases.items():
            connection = stack.enter_context(connect(exposed, first))
            names[connection], trickles[connection] = name, trickle
        seconds = {names[each]: waited for each, waited in seconds_until_closed(trickles).items()}
    assert [name for name, waited in seconds.items() if waited >= HEAD_SECONDS + LATE] == []


def test_a_client_that_keeps_sending_after_a_refusal_is_disconnected(exposed: Server):
    head = HEAD + b"Content-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
    with connect(exposed, head) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 415")
        assert seconds_until_closed({connection: b"x"})[connection] < HEAD_SECONDS + LATE


def test_a_slow_body_is_refused_and_its_connection_closed(exposed: Server):
    head = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
    with connect(exposed, head) as connection:
        started = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started < BODY_SECONDS + LATE
        assert seconds_until_closed({connection: b"x"})[connection] < HEAD_SECONDS + LATE


def test_a_client_that_does_not_read_its_answer_is_disconnected(exposed: Server):
    before = dropped(exposed, "slow_answer")
    asset = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(exposed, 10 * asset, receive_buffer=4096):  # more than the system's buffers
        deadline = time.monotonic() + SEND_SECONDS + LATE
        while dropped(exposed, "slow_answer") == before and time.monotonic() < deadline:
            time.sleep(0.2)
    assert dropped(exposed, "slow_answer") == before + 1


def test_a_client_that_sends_again_in_time_keeps_its_connection(exposed: Server, picture: bytes):
    with httpx.Client() as client:
        ports = set()
        for _ in range(5):  # the four pauses together are longer than the timeout
            time.sleep(HEAD_SECONDS / 3 if ports else 0)
            response = client.post(f"{exposed.url}/predict", files={"image": picture})
            assert response.status_code == 200
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1


def test_pipelined_requests_are_answered_in_order(exposed: Server):
    one = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with connect(exposed, one % b"/livez" + one % b"/nothing" + one % b"/readyz") as connection:
        received = b""
        while received.count(b"HTTP/1.1") < 3 or not received.endswith(b"\n"):
            received += connection.recv(65536)
            if received.count(b"HTTP/1.1") == 3:
                break
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"404", b"200"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header: Erika\r\n\r\n", id="bad header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + 200_000 * b"a", id="huge header"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", id="two lengths"),
        pytest.param(b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", id="bytes in the path"),
    ],
)
def test_malformed_http_gets_an_error_of_the_contract(exposed: Server, request_bytes: bytes):
    with connect(exposed) as connection:
        with suppress(ConnectionError):
            connection.sendall(request_bytes)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
    assert received.startswith(b"HTTP/1.1 400")
    assert b'{"error":{"code":"bad_request"' in received
    assert "Erika" not in exposed.log.read_text()


def test_a_malformed_chunk_ends_the_request_without_a_5xx(exposed: Server):
    head = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    with connect(exposed, head) as connection:
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 400")
    assert error_code(exposed.predict(b"")) == "image_empty"
    assert "Traceback" not in exposed.log.read_text()


def test_closed_connections_do_not_delay_a_shutdown(tmp_path: Path, release: Path, keys: Path):
    head = HEAD + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b\r\n"
    with serving(tmp_path, keys, BUCKLER_RELEASE=str(release)) as server:
        for _ in range(20):
            connect(server, head).close()
        assert server.predict(encode("PNG", (40, 40))).status_code == 200
        ended = time.monotonic()
    assert time.monotonic() - ended < 10
    assert server.log.read_text().count("status=499") == 20


def test_a_picture_is_answered_after_these_attacks(exposed: Server):
    assert exposed.predict(encode("PNG", (40, 40))).status_code == 200
    assert not re.search(r"Traceback|Fatal error", exposed.log.read_text())
