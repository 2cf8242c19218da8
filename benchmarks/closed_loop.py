"""Asks an HTTP server as fast as it answers: so many clients, each with one request under way at a time.

The requests' bytes are made beforehand and the connections stay open, so that little of the machine goes to asking.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it.

    Attributes:
        seconds: From the first request to the last answer.
        latencies: Seconds of each good answer.
        errors: Answers with another status than 200, and connections that broke.
    """

    seconds: float
    latencies: tuple[float, ...]
    errors: int


def ask(port: int, requests: Sequence[bytes], *, clients: int, seconds: float) -> Load:
    """Send ``requests`` in turn to the server at ``port`` of loopback, for so many ``seconds``.

    Args:
        port: Of the server.
        requests: Whole HTTP/1.1 requests, head and body.
        clients: Connections at once.
        seconds: After which no request is begun.
    """
    return asyncio.run(_ask(port, requests, clients, seconds))


async def _ask(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Load:
    began = time.perf_counter()
    found: list[float | None] = []
    await asyncio.gather(*(_client(port, requests[i:] + requests[:i], began + seconds, found) for i in range(clients)))
    good = tuple(latency for latency in found if latency is not None)
    return Load(time.perf_counter() - began, good, len(found) - len(good))


async def _client(port: int, requests: Sequence[bytes], until: float, found: list[float | None]) -> None:
    place, connection = 0, None
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            good = await _exchange(*connection, requests[place % len(requests)])
        except (OSError, asyncio.IncompleteReadError):
            good, connection = False, None
            await asyncio.sleep(0.01)  # a server that is gone is not to be hammered
        found.append(time.perf_counter() - began if good else None)
        place += 1
    if connection:
        connection[1].close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head.split(b" ", 2)[1] == b"200"


def post(path: str, content_type: str, body: bytes) -> bytes:
    """Return a POST request to keep the connection open for the next."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def form(picture: bytes, name: str = "image") -> tuple[str, bytes]:
    """Return content type and body of a form with one file in the field ``name``."""
    boundary = "closed-loop"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="picture.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body
