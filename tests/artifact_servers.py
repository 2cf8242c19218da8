"""A real HTTP server that lists and serves files as MLflow's artifact proxy does, and records what it is sent."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class Request(BaseHTTPRequestHandler):
    """One request to an `ArtifactServer`."""

    server: "ArtifactServer"

    def do_GET(self) -> None:
        self.server.received.append((self.path, dict(self.headers)))
        with suppress(ConnectionError):  # the client gave up
            self.server.answer(self)

    def log_message(self, *_: object) -> None:
        pass

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class ArtifactServer(ThreadingHTTPServer):
    """Serves ``files``: path below the proxy -> content.

    Attributes:
        received: Path and headers of each request.
        answer: Answers a request; default: `proxy`.
        released: Set it to end answers that wait.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.files: dict[str, bytes] = {}
        self.received: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[Request], None] = self.proxy
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def source(self) -> str:
        """The source of the version whose release `add` added."""
        return f"{self.url}{PROXY}/1"

    @property
    def credentials(self) -> list[str]:
        """All credentials that were received."""
        return [value for _, headers in self.received for name, value in headers.items() if name == "Authorization"]

    def add(self, release: Path) -> None:
        """Serve a directory as the release of the version."""
        for path in release.rglob("*"):
            if path.is_file():
                self.files[f"1/data/release/{path.relative_to(release)}"] = path.read_bytes()

    def proxy(self, request: Request) -> None:
        """List a directory or send a file."""
        place = urlsplit(request.path)
        if listed := parse_qs(place.query).get("path"):
            request.send(json.dumps({"files": self._below(f"{listed[0]}/")}).encode())
        elif (content := self.files.get(unquote(place.path).removeprefix(f"{PROXY}/"))) is not None:
            request.send(content)
        else:
            request.send(b"", 404)

    def trickle(self, request: Request) -> None:
        """Send a file of a gigabyte, some bytes a second."""
        if "?" in request.path:
            self.proxy(request)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(2**30))
        request.end_headers()
        while not self.released.wait(0.1):
            request.wfile.write(b"x")

    def keep_silent(self, _: Request) -> None:
        """Answer nothing at all."""
        self.released.wait()

    def _below(self, directory: str) -> list[dict[str, object]]:
        names = {path.removeprefix(directory) for path in self.files if path.startswith(directory)}
        parts = {name.partition("/")[:2] for name in names}
        return [{"path": name, "is_dir": bool(slash)} for name, slash in sorted(parts)]


@contextmanager
def running() -> Iterator[ArtifactServer]:
    with ArtifactServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
