"""Middleware between the network and BentoML: keys, limits, request ids, the contract's errors, one log line each.

Unknown paths and methods never reach BentoML's routes. Keys and limits are checked before the body is read, the size of
the body while it is read, and only the pictures of a form are forwarded. No picture, file name or header value is
logged, counted or quoted; of a key, only its id.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from contextvars import ContextVar
from http import HTTPStatus
from uuid import uuid4

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buckler.serving.api_keys import ApiKey
from services.classifier import endpoints, metrics
from services.classifier.contract import RefusalError, code_and_message
from services.classifier.edge.access import Access
from services.classifier.endpoints import METHODS, PROBES, READ, canonical
from services.classifier.interfaces import negotiation
from services.classifier.interfaces.form import rebuild
from services.classifier.records.audit import ANONYMOUS, CLIENT_ID, RECEIPT_HEADER, RECEIPT_WANTED, wants_receipt
from services.classifier.records.traffic import FROM_WATCH, is_from_watch
from services.classifier.requests import ANSWER_ROUTE, PICTURE_REQUEST
from services.classifier.settings import Settings

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
REQUEST_ID_HEADER = "x-request-id"
DOCS_FILES = "/docs/"
# The only headers of a request that BentoML gets.
FORWARDED = (b"host", b"accept", b"user-agent")
STRIPPED = ("server", "x-bentoml-request-id")

logger = logging.getLogger("buckler.service")


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


def new_request_id() -> str:
    """Return an id for an answer and its log line; a client cannot choose it."""
    return uuid4().hex


class FrontDoor:
    """ASGI middleware around the whole service."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._access = Access(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = HttpExchange(canonical(scope), send)
        REQUEST_ID.set(exchange.request_id)
        try:
            await self._answer(exchange, receive)
        except ClientGoneError:
            await exchange.give_up()
        finally:
            exchange.record()

    async def _answer(self, exchange: "HttpExchange", receive: Receive) -> None:
        with ExitStack() as place:
            try:
                key = self._check_head(exchange, place)
                scope, receive = await self._read_request(exchange.scope, receive, key, place)
            except RefusalError as refusal:
                place.close()  # first: a client that reads its refusal slowly must not count against the limits
                await exchange.refuse(refusal.code, refusal.detail, refusal.headers)
                return
            await self._run(exchange, scope, receive, place.pop_all())

    def _check_head(self, exchange: "HttpExchange", place: ExitStack) -> ApiKey | None:
        """Check path, method, key and limits, in this order; the request counts until ``place`` is closed.

        Returns:
            The key of the request, if the path needs one.

        Raises:
            RefusalError: A check failed.
        """
        path, method = exchange.scope["path"], exchange.scope["method"]
        methods = METHODS.get(path, READ if path.startswith(DOCS_FILES) else None)
        if methods is None:
            raise RefusalError("not_found")
        if method not in methods:
            raise RefusalError("method_not_allowed", headers={"allow": ", ".join(methods)})
        headers = Headers(scope=exchange.scope)
        key = self._access.key(path, headers)
        exchange.key_id = key.id if key else "-"
        CLIENT_ID.set(key.id if key else ANONYMOUS)
        FROM_WATCH.set(is_from_watch(key, headers))
        self._access.check_role(path, key)
        self._access.reserve_request(path, key, place)
        return key

    async def _run(self, exchange: "HttpExchange", scope: Scope, receive: Receive, place: ExitStack) -> None:
        # A worker thread cannot be cancelled, and the client must not wait for it: hence a task that outlives the
        # timeout. Cancelling the scope, not the task, lets the thread end before its place is free; otherwise threads
        # of timed-out requests would pile up beside the current one.
        limit = anyio.CancelScope()

        async def ask() -> None:
            with limit:
                await self._app(scope, receive, exchange.forward)

        work = asyncio.ensure_future(ask())
        work.add_done_callback(lambda _: place.close())
        try:
            done, _ = await asyncio.wait({work}, timeout=self._settings.request_timeout_seconds)
        finally:
            limit.cancel()
        if not done:
            await exchange.refuse("timeout")
        elif error := work.exception():
            logger.error("request %s failed", exchange.request_id, exc_info=error)
            await exchange.refuse("internal_error")

    async def _read_request(
        self, scope: Scope, receive: Receive, key: ApiKey | None, place: ExitStack
    ) -> tuple[Scope, Receive]:
        """Return the scope and the body that BentoML gets.

        Raises:
            RefusalError: The request is invalid or exceeds a limit.
        """
        if scope["path"] not in endpoints.PICTURE_PATHS:
            return scope, receive
        given = Headers(scope=scope)
        RECEIPT_WANTED.set(wants_receipt(given.get(RECEIPT_HEADER)))
        pictures = await self._read_pictures(scope["path"], given, receive)
        request = await negotiation.request_for(scope, pictures, self._settings)
        if request is None:  # one picture with the default form of answer: BentoML parses it
            content_type, body = rebuild(pictures[0])
        else:
            self._access.reserve_pictures(key, request.count, place)
            PICTURE_REQUEST.set(request)
            scope, content_type, body = {**scope, "path": ANSWER_ROUTE}, b"application/json", b"{}"
        headers = [pair for pair in scope["headers"] if pair[0] in FORWARDED]
        headers += [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        return {**scope, "headers": headers}, _replay(body, receive)

    async def _read_pictures(self, path: str, headers: Headers, receive: Receive) -> tuple[bytes, ...]:
        form = negotiation.body_for(path, headers, self._settings)
        limit = self._settings.body_limit_bytes
        too_large = RefusalError("body_too_large", f"expected a body of at most {limit} bytes")
        announced = headers.get("content-length", "0")
        # Before the first read, so that a client that waits for "100 continue" sends nothing.
        if announced.isdecimal() and int(announced) > limit:
            raise too_large
        received = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk = message.get("body", b"")
                    received += len(chunk)
                    if received > limit:
                        raise too_large
                    form.feed(chunk)
                    if not message.get("more_body", False):
                        return form.pictures()
        except TimeoutError as error:
            raise RefusalError("body_timeout") from error


class HttpExchange:
    """One request and its answer: id, status, metrics and log line."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.request_id = new_request_id()
        self.status = 0
        self.key_id = "-"
        self._send = send
        self._started = time.perf_counter()
        self._code = "-"
        self._error: Message | None = None
        self._error_body = bytearray()
        self._answered = False

    @property
    def endpoint(self) -> str:
        """The path if it is known, else ``other``: a closed set of labels."""
        path: str = self.scope["path"]
        if path.startswith(DOCS_FILES):
            return DOCS_FILES.rstrip("/")
        return path if path in METHODS else endpoints.OTHER

    async def forward(self, message: Message) -> None:
        """Forward a successful answer in chunks; collect an error and send it in the form of the contract."""
        if self._answered:
            return  # the request has timed out
        if message["type"] == "http.response.start":
            if message["status"] >= HTTPStatus.BAD_REQUEST:
                self._error = message
            else:
                await self._start(message)
        elif self._error is None:
            await self._send(message)
        else:
            self._error_body += message.get("body", b"")
            if not message.get("more_body", False):
                status = self._error["status"]
                code, text = code_and_message(status, _json(self._error_body))
                await self.refuse(code, text)

    async def refuse(self, code: str, message: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Answer with an error of the contract, unless an answer has started."""
        if self.status:
            return
        self._code = code
        self._answered = True
        response = negotiation.error_form(self.scope)(code, message, headers)
        await self._start(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await self._send({"type": "http.response.body", "body": response.body})

    async def give_up(self) -> None:
        """End the exchange after the client closed the connection.

        BentoML's outer timeout waits for an answer to start. Without this start, which the server discards, each closed
        connection would leave a task until that timeout, and a shutdown would wait for it.
        """
        self.status = int(metrics.CLIENT_GONE)
        await self._send({"type": "http.response.start", "status": self.status, "headers": []})

    async def _start(self, message: Message) -> None:
        self.status = message["status"]
        headers = MutableHeaders(scope=message)
        for name in STRIPPED:
            del headers[name]
        headers[REQUEST_ID_HEADER] = self.request_id
        headers["x-content-type-options"] = "nosniff"
        if self.scope["path"] in endpoints.PICTURE_PATHS:
            headers["cache-control"] = "no-store"
        await self._send(message)

    def record(self) -> None:
        """Count the request and write its log line."""
        if not self.status:
            return  # the server is shutting down
        seconds = time.perf_counter() - self._started
        metrics.REQUESTS.labels(endpoint=self.endpoint, code=str(self.status)).inc()
        metrics.REQUEST_SECONDS.labels(endpoint=self.endpoint).observe(seconds)
        level = logging.DEBUG if self.endpoint in PROBES and self.status < HTTPStatus.BAD_REQUEST else logging.INFO
        logger.log(
            level,
            "request=%s endpoint=%s key=%s status=%d error=%s milliseconds=%.1f",
            self.request_id,
            self.endpoint,
            self.key_id,
            self.status,
            self._code,
            1000 * seconds,
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _json(body: bytes | bytearray) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
