"""Answers one HTTP request inside this process and counts the lines of Python that it passes, module by module.

Part of ``benchmarks.request_path``, which runs this file as a script in the environment of each checkout: it imports
nothing of the project but the service, and it relies on nothing of the service but HTTP.
"""

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

SETTLE_SECONDS = 2.0  # a worker checks its release once more after its start; that is not the request's work


class Tracer:
    """Collects the lines that all threads pass while ``recording``; threads that started before are not traced."""

    def __init__(self) -> None:
        self.recording = False
        self._lines: set[tuple[str, str, int]] = set()
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def modules(self) -> dict[str, int]:
        """Return the number of distinct lines by module."""
        return dict(Counter(module for module, _, _ in self._lines))

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        # Names in angle brackets belong to generated code, such as the methods of dataclasses.
        traced = self.recording and frame.f_code.co_filename[0] != "<" and frame.f_code.co_filename != __file__
        return self._pass if traced else None

    def _pass(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self.recording and event == "line":
            self._lines.add((frame.f_globals.get("__name__", ""), frame.f_code.co_filename, frame.f_lineno))
        return self._pass


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Start the application and stop it at the end of the context.

    Raises:
        RuntimeError: It did not start.
    """
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    begun = await outbox.get()
    if begun["type"] != "lifespan.startup.complete":
        raise RuntimeError(f"the service did not start: {begun}")
    yield
    await inbox.put({"type": "lifespan.shutdown"})
    await task


async def ask(app: Any, request: dict[str, Any]) -> tuple[int, bytes]:
    """Send a request in one piece; return status and body of the answer."""
    body = Path(request["body"]).read_bytes()
    headers = {"host": "127.0.0.1", "content-length": str(len(body)), **request["headers"]}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": request["path"],
        "raw_path": request["path"].encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 3000),
        "state": {},
    }
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    answered, status, content = asyncio.Event(), 0, bytearray()

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        content.extend(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    await app(scope, receive, send)
    return status, bytes(content)


async def count(request: dict[str, Any], tracer: Tracer) -> dict[str, int]:
    """Return the lines of one request by module, after another one of its kind.

    Raises:
        RuntimeError: An answer had another status than 200.
    """
    from services.classifier.service import Classifier

    app = Classifier.to_asgi()
    async with lifespan(app):
        await _require(app, request)
        await asyncio.sleep(SETTLE_SECONDS)
        tracer.recording = True
        await _require(app, request)
        tracer.recording = False
    return tracer.modules()


async def _require(app: Any, request: dict[str, Any]) -> None:
    status, content = await ask(app, request)
    if status != 200:
        raise RuntimeError(f"expected status 200 from {request['path']}, got {status}: {content[:500]!r}")


def main() -> None:
    """Read the request from the first file, write the counts to the second."""
    tracer = Tracer()
    request = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(asyncio.run(count(request, tracer))))


if __name__ == "__main__":
    main()
