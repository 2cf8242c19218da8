"""Reads the body of a request, within its limits of size and time."""

import asyncio
from collections.abc import Callable

from starlette.types import Receive

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.edge.encoding import Compressed, Plain
from services.classifier.routing import Reader
from services.classifier.settings import Settings


class ClientGoneError(Exception):
    """The client closed the connection before it got its answer."""


async def read(
    reader: Reader,
    decoder: Plain | Compressed,
    receive: Receive,
    announced: str,
    settings: Settings,
    hold: Callable[[int], None],
) -> tuple[bytes, ...]:
    """Feed a body to ``reader`` and return its files.

    Args:
        reader: Parses the body.
        decoder: Decompresses it.
        receive: Returns the messages of the request.
        announced: The header ``Content-Length``; empty without one.
        settings: The limits; the one on its size counts before and after decompression.
        hold: Counts bytes that stay in memory.

    Raises:
        RefusalError: The body is malformed, too large or too slow, or all bodies together are too large.
        ClientGoneError: The client closed the connection.
    """
    limit = settings.body_limit_bytes
    too_large = RefusalError(ErrorCode.BODY_TOO_LARGE, f"expected a body of at most {limit} bytes; send a smaller one")
    # Before the first read, so that a client that waits for "100 continue" sends nothing.
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    received = content = 0
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                received += len(chunk)
                if received > limit:
                    raise too_large
                for piece in decoder.pieces(chunk):
                    content += len(piece)
                    if content > limit:
                        raise too_large
                    hold(len(piece))
                    reader.feed(piece)
                if not message.get("more_body", False):
                    decoder.end()
                    return reader.files()
    except TimeoutError as error:
        raise RefusalError(ErrorCode.BODY_TIMEOUT) from error


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
