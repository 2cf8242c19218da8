"""How long a connection may keep this service waiting, and how many there may be: what a request's limits miss.

uvicorn, which BentoML starts and hands no such option, waits for ever for the rest of a request's head, for a client
that does not take its answer, and for one that goes on sending after it was refused. ``install`` puts a protocol in
uvicorn's table that does not. See docs/adr/0013.
"""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Any

import h11
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.classifier import endpoints, metrics
from services.classifier.contract import error_response
from services.classifier.settings import Settings


def install(settings: Settings) -> None:
    """Let every uvicorn server that this process starts from now on bound its connections."""
    # The table has names of classes; what it has is imported if it is a name, and called.
    HTTP_PROTOCOLS["auto"] = partial(BoundedProtocol, Connections(settings))  # type: ignore[assignment]


class Connections:
    """The open connections of one worker process, and which of them owe the head of a request, oldest debt first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._open: set[BoundedProtocol] = set()
        self._owing: OrderedDict[BoundedProtocol, None] = OrderedDict()

    def add(self, connection: "BoundedProtocol") -> None:
        """Take a new connection; where it is one too many, the one that has owed a head for longest goes.

        An honest client's head comes at once and in one piece: among hundreds that are half open it is the others
        that have owed theirs for longest. Where none owes one, the new connection goes.
        """
        self._open.add(connection)
        if len(self._open) > self.settings.max_connections:
            last = next(iter(self._owing), connection)
            self.remove(last)
            last.drop(metrics.TOO_MANY)

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self.paid(connection)

    def owes(self, connection: "BoundedProtocol") -> None:
        """Note that a connection owes a head from now on."""
        self._owing[connection] = None
        self._owing.move_to_end(connection)

    def paid(self, connection: "BoundedProtocol") -> None:
        """Note that it owes none."""
        self._owing.pop(connection, None)


class BoundedProtocol(H11Protocol):
    """One connection: a whole head is due after it was opened and after each answer, and answers are to be taken.

    Between a head and its answer the front door's own timeouts hold.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._head_due: asyncio.TimerHandle | None = None
        self._taking_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._connections.add(self)
        self._owe_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._connections.remove(self)
        for timer in (self._head_due, self._taking_due):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes: however many came, only a whole head stops the clock."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._pay_head()

    def on_response_complete(self) -> None:
        """Start the clock for the next head; what is left of a refused body does not stop it."""
        before = self.cycle
        self._owe_head()
        super().on_response_complete()
        if self.cycle is not before:  # it had come already
            self._pay_head()

    def pause_writing(self) -> None:
        """Start the clock for a client that does not take its answer."""
        super().pause_writing()
        self._taking_due = self.loop.call_later(
            self._connections.settings.send_timeout_seconds, self.drop, metrics.SLOW_ANSWER
        )

    def resume_writing(self) -> None:
        """Stop it."""
        super().resume_writing()
        if self._taking_due:
            self._taking_due.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP in the contract's form, and count them: no request comes of them."""
        metrics.REQUESTS.labels(endpoint=endpoints.OTHER, code="400").inc()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer has begun and can only be cut off
            return
        answer = error_response("bad_request")
        head = h11.Response(
            status_code=answer.status_code,
            headers=[*answer.raw_headers, (b"connection", b"close")],
            reason=b"Bad Request",
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def drop(self, reason: str) -> None:
        """Close without a word, and without waiting until the client has taken what was sent; count why."""
        metrics.CONNECTIONS_DROPPED.labels(reason=reason).inc()
        self.transport.abort()

    def _owe_head(self) -> None:
        self._pay_head()
        self._connections.owes(self)
        self._head_due = self.loop.call_later(
            self._connections.settings.head_timeout_seconds, self.drop, metrics.SLOW_HEAD
        )

    def _pay_head(self) -> None:
        self._connections.paid(self)
        if self._head_due:
            self._head_due.cancel()
