"""Load clients: closed loop (each waits for its answer before the next request) or open loop (fixed rate)."""

import asyncio
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

BOUNDARY = "drill"
LOST = "lost"  # no answer: the connection broke
PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request.

    Attributes:
        began, seconds: On the monotonic clock.
        status: Of HTTP as text, or ``LOST``.
        code: Of the contract where the answer is an error, else empty.
        version: Of the model that answered, else empty.
    """

    began: float
    seconds: float
    status: str
    code: str = ""
    version: str = ""


@dataclass
class Load:
    """Results of all requests so far; grows while clients run."""

    exchanges: list[Exchange] = field(default_factory=list)

    def statuses(self) -> dict[str, int]:
        """Return how often each status, or ``LOST``, came."""
        return dict(sorted(Counter(each.status for each in self.exchanges).items()))

    def failed(self) -> int:
        """Return the number of requests without a good answer."""
        return sum(each.status != "200" for each in self.exchanges)

    def after(self, moment: float) -> Sequence[Exchange]:
        """Return the requests that began after ``moment``."""
        return [each for each in self.exchanges if each.began >= moment]

    def slowest_milliseconds(self) -> float:
        """Return how long the slowest answer took."""
        return round(1000 * max((each.seconds for each in self.exchanges), default=0.0), 1)


def request(size: int = 64) -> bytes:
    """Return a whole POST /predict with a PNG of noise, connection closed after it."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(60, 200, size=(size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'.encode()
        + buffer.getvalue()
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    head = (
        "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(port: int, content: bytes, load: Load) -> Exchange:
    """Send one request over a connection of its own and note what became of it."""
    began = time.monotonic()
    try:
        answer = await asyncio.wait_for(_exchange(port, content), PATIENCE_SECONDS)
        exchange = _read(began, answer)
    except (OSError, TimeoutError, ValueError, IndexError):
        exchange = Exchange(began, time.monotonic() - began, LOST)
    load.exchanges.append(exchange)
    return exchange


async def _exchange(port: int, content: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()


def _read(began: float, answer: bytes) -> Exchange:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split()[1].decode()
    content = json.loads(body)  # fails for a truncated answer
    code = content.get("error", {}).get("code", "")
    version = content.get("model", {}).get("version", "")
    return Exchange(began, time.monotonic() - began, status, code, version)


@contextmanager
def clients(port: int, count: int) -> Iterator[Load]:
    """Let ``count`` clients ask, each one request after the other, until the context ends and the last answers came."""
    load, stop = Load(), threading.Event()

    async def client() -> None:
        content = request()
        while not stop.is_set():
            if (await ask(port, content, load)).status != "200":
                await asyncio.sleep(0.05)  # like a client that backs off

    async def all_clients() -> None:
        await asyncio.gather(*(client() for _ in range(count)))

    thread = threading.Thread(target=asyncio.run, args=(all_clients(),))
    thread.start()
    try:
        yield load
    finally:
        stop.set()
        thread.join()


def storm(port: int, per_second: float, seconds: float) -> Load:
    """Send ``per_second`` requests a second for ``seconds``, whatever becomes of those before, and wait for all."""
    load = Load()

    async def send() -> None:
        content, began = request(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
                group.create_task(ask(port, content, load))

    asyncio.run(send())
    return load
