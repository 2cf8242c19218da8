"""The load generator against small servers: complete, refused and lost requests; closed and open loop."""

import asyncio
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import load, servers


def answer(status: str, body: bytes, *, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (answer("200 OK", b'{"model": {"version": "3"}}'), ("200", "", "3")),
        (answer("503 Service Unavailable", b'{"error": {"code": "overloaded"}}'), ("503", "overloaded", "")),
        (answer("500 Internal Server Error", b"no JSON"), ("500", "", "")),
        (answer("200 OK", b'{"model": {"ver', length=30), (load.LOST, "", "")),
        (b"HTTP/1.1 200 OK\r\n\r\n", (load.LOST, "", "")),
        (b"", (load.LOST, "", "")),
    ],
)
def test_a_request_with_half_an_answer_is_lost(sent, expected):
    async def exchange() -> load.SentRequest:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"the body")
            writer.write(sent)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            connection = load.Connection(server.sockets[0].getsockname()[1], keep_open=False)
            return await connection.send(load.post("/", "text/plain", b"the body"))

    found = asyncio.run(exchange())
    assert (found.status, found.code, found.version) == expected


def test_requests_that_a_busy_server_refuses_are_counted_apart():
    bodies = {"429": b"", "503": b'{"error": {"code": "overloaded"}}', "500": b"", "200": b"{}", load.LOST: b""}
    found = load.Load([load.SentRequest(0.0, 0.1, status, body) for status, body in bodies.items()])
    found.requests.append(load.SentRequest(0.0, 0.1, "503", b'{"error": {"code": "no_verified_model"}}'))
    assert (found.refused(), found.failed()) == (2, 5)


@pytest.fixture
def server():
    """A server that answers every third request with 503; its port, the received bodies and the clients' addresses."""
    bodies, addresses = [], set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            addresses.add(self.client_address)
            content = json.dumps({"model": {"version": "7"}}).encode()
            self.send_response(503 if len(bodies) % 3 == 0 else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, bodies, addresses
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("keep_open", [True, False])
def test_the_closed_loop_counts_every_answer_and_sends_every_body(server, keep_open):
    port, bodies, addresses = server
    requests = [load.post("/", "text/plain", body, keep_open=keep_open) for body in (b"a", b"b", b"c")]
    with load.closed_loop(port, requests, clients=2, keep_open=keep_open) as found:
        time.sleep(0.5)
    assert len(found.requests) == len(bodies) > 10
    assert found.statuses() == {"200": len(bodies) - len(bodies) // 3, "503": len(bodies) // 3}
    assert found.failed() == len(bodies) // 3
    assert set(bodies) == {b"a", b"b", b"c"}
    assert len(addresses) == (2 if keep_open else len(bodies))
    assert len(found.latencies()) == found.statuses()["200"]
    assert all(0 < latency < found.seconds() for latency in found.latencies())
    assert found.slowest_milliseconds() >= 1000 * max(found.latencies()) - 0.1
    assert {each.version for each in found.requests} == {"7"}
    assert found.after(found.requests[-1].began + 60) == []


def test_requests_to_a_server_that_is_gone_are_lost():
    with load.closed_loop(servers.free_port(), [b"anything"], clients=2, keep_open=True) as found:
        time.sleep(0.1)
    assert found.latencies() == []
    assert found.failed() == found.statuses()[load.LOST] > 0


def test_the_open_loop_does_not_wait_for_answers(monkeypatch):
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as deaf:
        began = time.monotonic()
        sent = load.open_loop(deaf.getsockname()[1], b"anything", per_second=50, seconds=1)
    assert sent.statuses() == {load.LOST: 50}
    assert time.monotonic() - began < 5  # one after the other would take 25 s
