"""Request heads that a proxy might read differently, and requests to leave HTTP."""

import socket
import time

import h11
import httpx
import pytest

from services.classifier.edge.heads import StrictBuffer
from tests.services.classifier.edge.timeouts import HEAD_SECONDS
from tests.services.classifier.test_http import scrape, total
from tests.services.running import Server

LINE = b"POST /predict HTTP/1.1\r\n"
CHUNKED = b"0\r\n\r\n"
AMBIGUOUS = {
    "a length beside a transfer encoding": LINE
    + b"Host: 127.0.0.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "a transfer encoding beside a length": LINE
    + b"Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n"
    + CHUNKED,
    "two equal lengths": LINE + b"Host: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": LINE + b"Host: 127.0.0.1\r\nContent-Length: 1, 1\r\n\r\nx",
    "an encoding in HTTP 1.0": b"POST /predict HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED,
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: 127.0.0.1\n\n",
    "a bare line feed before the end": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\n\r\n",
    "a bare line feed after one line": b"GET /livez HTTP/1.1\nHost: 127.0.0.1\r\n\r\n",
    "a bare line feed at the end": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\n",
    "a folded line": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: 1\r\n folded: 2\r\n\r\n",
    "a folded length": LINE + b"Host: 127.0.0.1\r\nX-A: 1\r\n\tContent-Length: 9\r\n\r\n",
    "a folded first header": b"GET /livez HTTP/1.1\r\n X-A: 1\r\nHost: 127.0.0.1\r\n\r\n",
}
CLEAR = {
    "no body": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a length": LINE + b"Host: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx",
    "chunks": LINE + b"Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "HTTP 1.0": b"POST /predict HTTP/1.0\r\nContent-Length: 1\r\n\r\n\n",
    "two requests": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2,
}
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def parsed(content: bytes, at_once: int) -> list[type]:
    """Return the types of the events in ``content``, received in parts of ``at_once`` bytes."""
    connection = h11.Connection(h11.SERVER)
    connection._receive_buffer = StrictBuffer()
    events = []
    for start in range(0, len(content), at_once):
        connection.receive_data(content[start : start + at_once])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(type(event))
    return events


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_head_is_no_request(name: str, at_once: int):
    with pytest.raises(h11.RemoteProtocolError, match="head"):
        parsed(AMBIGUOUS[name], at_once)


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@pytest.mark.parametrize("name", CLEAR)
def test_a_clear_head_is_a_request(name: str, at_once: int):
    events = parsed(CLEAR[name], at_once)
    assert events[0] is h11.Request
    assert events[-1] is h11.EndOfMessage


ABSOLUTE = b"POST %b HTTP/1.1\r\nX-A: 1\r\nHost: other.example\r\nX-B: 2\r\n\r\n"


@pytest.mark.parametrize("at_once", [1, 1000])
@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        (b"http://127.0.0.1:3000/predict", b"127.0.0.1:3000", b"/predict"),
        (b"HTTPS://Ward.example/a%2Fb?c=http://d/e", b"Ward.example", b"/a%2Fb?c=http://d/e"),
        (b"http://[::1]:3000", b"[::1]:3000", b"/"),
        (b"http://ward.example:?label=x", b"ward.example:", b"/?label=x"),
        (b"http://ward.example//evil.example/", b"ward.example", b"//evil.example/"),
    ],
)
def test_a_request_for_a_url_is_one_for_its_path_at_its_host(url: bytes, host: bytes, target: bytes, at_once: int):
    connection = h11.Connection(h11.SERVER)
    connection._receive_buffer = StrictBuffer()
    content = ABSOLUTE % url
    for start in range(0, len(content), at_once):
        connection.receive_data(content[start : start + at_once])
    request = connection.next_event()
    assert request.target == target
    assert sorted(request.headers) == [(b"host", host), (b"x-a", b"1"), (b"x-b", b"2")]


def test_options_of_a_host_are_those_of_the_whole_server():
    connection = h11.Connection(h11.SERVER)
    connection._receive_buffer = StrictBuffer()
    connection.receive_data(b"OPTIONS http://127.0.0.1:3000 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.next_event().target == b"*"


@pytest.mark.parametrize(
    "head",
    [
        ABSOLUTE % b"http:///predict",
        ABSOLUTE % b"http://",
        ABSOLUTE % b"http://Erika@127.0.0.1/predict",
        ABSOLUTE % b"http://127.0.0.1@evil.example/predict",
        ABSOLUTE % b"http://127.0.0.1:3000:1/predict",
        ABSOLUTE % b"http://127.0.0.1:80x/predict",
        ABSOLUTE % b"http://127.0.0.1/predict#x",
        ABSOLUTE % b"http://a b/predict",
        (ABSOLUTE % b"http://127.0.0.1/predict").replace(b"X-B", b"Host"),
        (ABSOLUTE % b"http://127.0.0.1/predict").replace(b"Host", b"X-C"),
    ],
)
def test_a_url_without_one_clear_host_is_no_request(head: bytes):
    with pytest.raises(h11.RemoteProtocolError):
        parsed(head, 1000)


def test_an_old_client_without_a_host_gets_the_one_of_its_url():
    assert parsed(b"GET http://127.0.0.1/livez HTTP/1.0\r\n\r\n", 1000) == [h11.Request, h11.EndOfMessage]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "host", "status"),
    [
        (b"http://127.0.0.1:3000/livez", b"127.0.0.1:3000", 200),
        (b"http://127.0.0.1:3000/livez/", b"evil.example", 200),  # the target's host counts
        (b"http://evil.example/livez", b"127.0.0.1:3000", 421),
        (b"http://127.0.0.1/nothing", b"127.0.0.1", 404),
        (b"http://127.0.0.1@evil.example/livez", b"127.0.0.1", 400),
    ],
)
def test_a_server_answers_a_url_by_its_own_host(exposed: Server, url: bytes, host: bytes, status: int):
    answer = exchange(exposed, b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (url, host))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.slow
def test_options_of_the_whole_server_lists_the_methods(exposed: Server):
    answer = exchange(exposed, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nallow: POST, GET, HEAD, OPTIONS\r\n" in answer


def test_a_trailer_is_as_strict_as_a_head():
    start = LINE + b"Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1"
    for trailer in (b"\n\r\n", b"\r\n folded\r\n\r\n"):
        with pytest.raises(h11.RemoteProtocolError):
            parsed(start + trailer, 1000)


def exchange(server: Server, content: bytes) -> bytes:
    """Return all that a server answers until it closes the connection."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(content)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def refused(server: Server) -> float:
    return total(scrape(server), "buckler_requests_total", endpoint="other", code="400")


@pytest.mark.slow
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_server_answers_400_once_closes_and_counts(exposed: Server, name: str):
    before = refused(exposed)
    answer = exchange(exposed, AMBIGUOUS[name] + CLEAR["no body"])  # a smuggled request must get no answer
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"code":"bad_request"' in answer
    assert refused(exposed) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "status", "endpoint"),
    [("/predict", 405, "/predict"), ("/ws", 404, "other"), ("/livez", 200, "/livez")],
)
def test_a_websocket_handshake_is_a_request_like_any_other(exposed: Server, path: str, status: int, endpoint: str):
    def counted() -> float:
        return total(scrape(exposed), "buckler_requests_total", endpoint=endpoint, code=str(status))

    before = counted()
    answer = exchange(exposed, HANDSHAKE % path.encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nx-request-id: " in answer
    assert counted() == before + 1


@pytest.mark.slow
def test_a_closed_handshake_is_forgotten(exposed: Server):
    """An entry that stayed in the table of connections would be dropped as a slow head later."""

    def dropped() -> float:
        return total(scrape(exposed), "buckler_connections_dropped_total")

    before = dropped()
    for _ in range(20):
        assert exchange(exposed, HANDSHAKE.replace(b"Upgrade\r\n", b"Upgrade, close\r\n") % b"/livez")
    time.sleep(HEAD_SECONDS + 1)
    assert dropped() == before
