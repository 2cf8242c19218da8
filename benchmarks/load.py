"""Load on an HTTP server on loopback: closed loop (each client waits for its answer) or open loop (fixed rate).

Requests are bytes that are built beforehand, so that sending them costs little of the machine's time.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

LOST = "lost"  # status of a request without a complete answer
TOO_MANY_REQUESTS, OVERLOADED = "429", "overloaded"  # status and code of the requests that a busy server refuses
PATIENCE_SECONDS = 60
BACK_OFF_SECONDS = 0.05  # between a failed request of a client and its next one
BOUNDARY = "buckler-load"


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One request and its answer.

    Attributes:
        began: Time on the monotonic clock.
        seconds: Until the answer was complete or the request was lost.
        status: HTTP status as text, or ``LOST``.
        body: Body of the answer.
    """

    began: float
    seconds: float
    status: str
    body: bytes = b""

    @property
    def code(self) -> str:
        """Return the service's error code, or an empty text."""
        return self._field("error", "code")

    @property
    def version(self) -> str:
        """Return the version of the model that answered, or an empty text."""
        return self._field("model", "version")

    @property
    def refused(self) -> bool:
        """Whether the server refused the request because it had too many."""
        return self.status == TOO_MANY_REQUESTS or self.code == OVERLOADED

    def _field(self, group: str, name: str) -> str:
        try:
            content = json.loads(self.body)
        except ValueError:
            return ""
        return str(content.get(group, {}).get(name, "")) if isinstance(content, dict) else ""


@dataclass
class Load:
    """All finished requests; the list grows while clients run."""

    requests: list[SentRequest] = field(default_factory=list)

    def statuses(self) -> dict[str, int]:
        """Return the number of requests for each status, ``LOST`` included."""
        return dict(sorted(Counter(each.status for each in self.requests).items()))

    def failed(self) -> int:
        """Return the number of requests with another status than 200."""
        return sum(each.status != "200" for each in self.requests)

    def refused(self) -> int:
        """Return the number of requests that the server refused because it had too many."""
        return sum(each.refused for each in self.requests)

    def after(self, moment: float) -> Sequence[SentRequest]:
        """Return the requests that began after ``moment``."""
        return [each for each in self.requests if each.began >= moment]

    def latencies(self) -> list[float]:
        """Return the seconds of each request with status 200."""
        return [each.seconds for each in self.requests if each.status == "200"]

    def seconds(self) -> float:
        """Return the time from the first request to the last answer."""
        ends = (each.began + each.seconds for each in self.requests)
        return max(ends, default=0.0) - min((each.began for each in self.requests), default=0.0)

    def slowest_milliseconds(self) -> float:
        """Return the longest time of a request."""
        return round(1000 * max((each.seconds for each in self.requests), default=0.0), 1)


class Connection:
    """A client's connection, opened on demand.

    Args:
        port: Port of the server on loopback.
        keep_open: Whether the next request uses the same connection.
    """

    def __init__(self, port: int, *, keep_open: bool) -> None:
        self._port, self._keep_open = port, keep_open
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> SentRequest:
        """Send a request and wait for its answer, which must state its length."""
        began = time.monotonic()
        try:
            status, body = await asyncio.wait_for(self._exchange(request), PATIENCE_SECONDS)
        except (OSError, EOFError, TimeoutError, ValueError, IndexError):
            self.close()
            status, body = LOST, b""
        return SentRequest(began, time.monotonic() - began, status, body)

    async def _exchange(self, request: bytes) -> tuple[str, bytes]:
        self._streams = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if not self._keep_open:
            self.close()
        return head.split(b" ", 2)[1].decode(), body

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


@contextmanager
def closed_loop(
    port: int, requests: Sequence[bytes], *, clients: int, keep_open: bool, pause: float = 0.0
) -> Iterator[Load]:
    """Run clients that each send ``requests`` in turn, one at a time, until the context ends and all are answered.

    Args:
        port: Port of the server on loopback.
        requests: Whole requests.
        clients: How many run side by side.
        keep_open: Whether a client uses one connection.
        pause: Seconds between an answer and the client's next request.
    """
    load, stop = Load(), threading.Event()

    async def client(first: int) -> None:
        connection, number = Connection(port, keep_open=keep_open), first
        while not stop.is_set():
            sent = await connection.send(requests[number % len(requests)])
            load.requests.append(sent)
            number += 1
            if wait := max(pause, BACK_OFF_SECONDS if sent.status != "200" else 0.0):
                await asyncio.sleep(wait)
        connection.close()

    async def all_clients() -> None:
        await asyncio.gather(*(client(first) for first in range(clients)))

    thread = threading.Thread(target=asyncio.run, args=(all_clients(),))
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()


def open_loop(port: int, request: bytes, *, per_second: float, seconds: float) -> Load:
    """Send requests at a fixed rate, each over its own connection, and wait for all answers."""
    load = Load()

    async def send_one() -> None:
        load.requests.append(await Connection(port, keep_open=False).send(request))

    async def send_all() -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
                group.create_task(send_one())

    asyncio.run(send_all())
    return load


def post(path: str, content_type: str, body: bytes, *, keep_open: bool = True) -> bytes:
    """Return a whole POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {'keep-alive' if keep_open else 'close'}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def form(picture: bytes, media_type: str = "image/jpeg") -> tuple[str, bytes]:
    """Return content type and body of a form with one picture in the field ``image``."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="picture"\r\n'
    body = f"{head}Content-Type: {media_type}\r\n\r\n".encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={BOUNDARY}", body
