"""A man in the middle: forwards requests to a server, and may change what both sides get."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}

Change = Callable[[str, bytes], bytes]  # from a request's method and path, and a body, to another body


def unchanged(_: str, body: bytes) -> bytes:
    """Return the body itself."""
    return body


class Middle:
    """What the man in the middle does now.

    Attributes:
        request: Changes the body of each request.
        answer: Changes the body of each answer.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.request: Change = unchanged
        self.answer: Change = unchanged


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that was killed, or gave up, leaves its connection."""


@contextmanager
def between(target: int) -> Iterator[Middle]:
    """Run a proxy in front of a port of this machine until the context ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    middle = Middle(server.server_address[1])

    class Handler(_Handler):
        forwards_to: ClassVar[int] = target
        does: ClassVar[Middle] = middle

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield middle
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    forwards_to: ClassVar[int]
    does: ClassVar[Middle]

    def _forward(self) -> None:
        name = f"{self.command} {self.path}"
        body = self.does.request(name, self.rfile.read(int(self.headers.get("content-length", 0))))
        headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP}
        connection = http.client.HTTPConnection("127.0.0.1", self.forwards_to, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, headers)
            found = connection.getresponse()
            answer = self.does.answer(name, found.read())
        finally:
            connection.close()
        self.send_response(found.status)
        for key, value in found.getheaders():
            if key.lower() not in HOP:
                self.send_header(key, value)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815 - as the base class finds them

    def log_message(self, *_: object) -> None:
        """Print nothing."""
