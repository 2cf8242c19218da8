"""Servers that do not behave: they take no connection, answer nothing, or one byte at a time."""

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRICKLE_SECONDS = 0.05  # between two bytes


@contextmanager
def swallowing() -> Iterator[str]:
    """Yield the URL of a port whose packets are lost, as behind a firewall: connecting to it never ends."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill the queue, from which nobody takes a connection
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Yield the URL of a server that takes connections and requests, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class Quiet(BaseHTTPRequestHandler, ABC):
    """A handler that logs nothing and answers GET and POST alike."""

    @abstractmethod
    def answer(self) -> None:
        """Answer the request."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[Quiet]) -> Iterator[str]:
    """Yield the URL of a server with ``handler``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def trickling() -> Iterator[str]:
    """Yield the URL of a server that answers one byte at a time, head and body, and never ends."""
    ended = threading.Event()

    class Trickle(Quiet):
        def answer(self) -> None:
            with suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n":
                    self._send(bytes([byte]))
                while not ended.is_set():
                    self._send(b" ")

        def _send(self, byte: bytes) -> None:
            ended.wait(TRICKLE_SECONDS)
            self.wfile.write(byte)

    with serving(Trickle) as url:
        try:
            yield url
        finally:
            ended.set()


@contextmanager
def slow(seconds: float, content: bytes = b"{}") -> Iterator[str]:
    """Yield the URL of a server that answers every request after ``seconds``, with JSON."""
    ended = threading.Event()

    class Slow(Quiet):
        def answer(self) -> None:
            ended.wait(seconds)
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

    with serving(Slow) as url:
        try:
            yield url
        finally:
            ended.set()
