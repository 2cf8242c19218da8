"""Limits on the number and the idle time of connections, which the limits on requests do not cover.

uvicorn waits for ever for the rest of a request head, for a client that does not read its answer, and for one that
keeps sending after a refusal; BentoML passes it no option against this. ``install`` registers a protocol with timeouts
in uvicorn's table. See docs/adr/0013.
"""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Any

import h11
from uvicorn.config import HTTP_PROTOCOLS

from buckler.error_codes import ErrorCode
from services.classifier import metrics
from services.classifier.contract import ERROR_FORM, RefusalError
from services.classifier.edge.heads import StrictProtocol
from services.classifier.routing import OTHER
from services.classifier.settings import Settings


def install(settings: Settings) -> None:
    """Make all uvicorn servers that this process starts from now on limit their connections."""
    # uvicorn imports an entry that is a name, and calls any other.
    HTTP_PROTOCOLS["auto"] = partial(BoundedProtocol, Connections(settings))  # type: ignore[assignment]


class Connections:
    """The open connections of one worker process, and those waiting for a request head, longest wait first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: set[BoundedProtocol] = set()
        self._waiting: OrderedDict[BoundedProtocol, None] = OrderedDict()

    def add(self, connection: "BoundedProtocol") -> None:
        """Add a connection; above the limit, drop the one that has waited longest for a request head.

        An honest client sends its head at once, so the longest wait among hundreds of half-open connections is an
        attacker's. If no connection is waiting, the new one is dropped.
        """
        self._open.add(connection)
        if len(self._open) > self.settings.max_connections:
            longest = next(iter(self._waiting), connection)
            self.remove(longest)
            longest.drop(metrics.TOO_MANY)

    def remove(self, connection: "BoundedProtocol") -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self.head_complete(connection)

    def wait_for_head(self, connection: "BoundedProtocol") -> None:
        """Note that a connection waits for a request head from now on."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def head_complete(self, connection: "BoundedProtocol") -> None:
        """Note that a connection no longer waits."""
        self._waiting.pop(connection, None)


class BoundedProtocol(StrictProtocol):
    """One connection, with time limits on receiving a whole request head and on sending an answer.

    Between a head and its answer, the front door's timeouts apply.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._head_due: asyncio.TimerHandle | None = None
        self._send_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection and start the clock for its first head."""
        super().connection_made(transport)
        self._connections.add(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection and stop its clocks."""
        self._connections.remove(self)
        for timer in (self._head_due, self._send_due):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; only a whole head stops the clock."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_head_clock()

    def on_response_complete(self) -> None:
        """Start the clock for the next head; the rest of a refused body does not stop it."""
        before = self.cycle
        self._await_head()
        super().on_response_complete()
        if self.cycle is not before:  # the next head has already arrived
            self._stop_head_clock()

    def pause_writing(self) -> None:
        """Start the clock for a client that does not read its answer."""
        super().pause_writing()
        self._send_due = self.loop.call_later(
            self._connections.settings.send_timeout_seconds, self.drop, metrics.SLOW_ANSWER
        )

    def resume_writing(self) -> None:
        """Stop the clock."""
        super().resume_writing()
        if self._send_due:
            self._send_due.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP with a 400 of the contract, and count it: it never becomes a request."""
        metrics.REQUESTS.labels(endpoint=OTHER, code="400").inc()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer has begun and can only be cut
            return
        answer = ERROR_FORM.response(RefusalError(ErrorCode.BAD_REQUEST))
        head = h11.Response(
            status_code=answer.status_code,
            headers=[*answer.raw_headers, (b"connection", b"close")],
            reason=b"Bad Request",
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def drop(self, reason: str) -> None:
        """Close at once, without an answer and without sending the buffered bytes; count the reason."""
        metrics.CONNECTIONS_DROPPED.labels(reason=reason).inc()
        self.transport.abort()

    def _await_head(self) -> None:
        self._stop_head_clock()
        self._connections.wait_for_head(self)
        self._head_due = self.loop.call_later(
            self._connections.settings.head_timeout_seconds, self.drop, metrics.SLOW_HEAD
        )

    def _stop_head_clock(self) -> None:
        self._connections.head_complete(self)
        if self._head_due:
            self._head_due.cancel()
