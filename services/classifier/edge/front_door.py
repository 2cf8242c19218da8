"""The way in and out of every request: keys, limits, deadlines, request ids, the contract's errors, one log line each.

Keys and limits are checked before the body is read, its size while it is read. No picture, file name or header value
is logged, counted or quoted; of a key, only its id.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.edge import body, encoding
from services.classifier.edge.access import Access
from services.classifier.edge.body import ClientGoneError
from services.classifier.edge.cross_origin import CrossOrigin
from services.classifier.edge.exchange import Exchange
from services.classifier.records.audit import RECEIPT_HEADER, wants_receipt
from services.classifier.records.traffic import is_from_watch
from services.classifier.requests import ANONYMOUS, Call, Pipeline, Sender
from services.classifier.routing import Endpoint, Format, Table
from services.classifier.settings import Settings

logger = logging.getLogger("buckler.service")


class FrontDoor:
    """ASGI application that answers every HTTP request by the table of endpoints."""

    def __init__(self, app: ASGIApp, settings: Settings, table: Table, pipeline: Callable[[], Pipeline]) -> None:
        """Create the application.

        Args:
            app: BentoML's application, which gets only the events of starting and stopping.
            settings: The limits.
            table: The endpoints.
            pipeline: Returns the service that answers; called for each request, since BentoML creates it later.
        """
        self._app, self._settings, self._table, self._pipeline = app, settings, table, pipeline
        self._access = Access(settings)
        exposed = (name for row in table for each in row.gives for name in each.headers)
        self._cross_origin = CrossOrigin(settings.allowed_origins, exposed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # our protocol has no WebSocket; another one must not bypass the table
            await send({"type": "websocket.close"})
            return
        exchange = Exchange(scope, send, self._table.error_form(scope["path"]), self._cross_origin)
        try:
            response = await self._response(exchange, receive)
            await exchange.answer(response, receive)
        except ClientGoneError:
            await exchange.give_up()
        finally:
            exchange.record()

    async def _response(self, exchange: Exchange, receive: Receive) -> Response:
        # Its places are free before the answer is sent: a client that reads slowly must not count against the limits.
        with ExitStack() as places:
            try:
                if exchange.scope["method"] == "OPTIONS":
                    return self._options(exchange)
                endpoint, call = await self._admitted(exchange, receive, places)
                return await self._answered(endpoint, call, receive)
            except RefusalError as refusal:
                return exchange.refusal(refusal)
            except ClientGoneError:
                raise
            except Exception:
                logger.exception("request %s failed", exchange.request_id)
                return exchange.refusal(RefusalError(ErrorCode.INTERNAL_ERROR))

    async def _admitted(self, exchange: Exchange, receive: Receive, places: ExitStack) -> tuple[Endpoint, Call]:
        """Check path, method, host name, key and limits, in this order, then read the body.

        Returns:
            The endpoint and what its handler gets; the request counts until ``places`` is closed.

        Raises:
            RefusalError: A check failed.
            ClientGoneError: The client closed the connection.
        """
        endpoint, parameters, chosen = self._find(exchange)
        headers = exchange.headers
        self._access.check_host(headers)
        key = self._access.key(endpoint, headers)
        if key:
            exchange.key_id = key.id
        self._access.check_role(endpoint, key)
        self._access.reserve_request(endpoint, key, places)
        receipt = endpoint.audited and wants_receipt(headers.get(RECEIPT_HEADER))
        return endpoint, Call(
            id=exchange.request_id,
            format=chosen,
            pipeline=self._pipeline(),
            sender=Sender(key.id if key else ANONYMOUS, is_from_watch(key, headers)),
            receipt=receipt,
            path=parameters,
            query=QueryParams(exchange.scope["query_string"]),
            headers=headers,
            files=await self._read(endpoint, headers, receive, places),
            reserve=partial(self._access.reserve_pictures, key, places),
        )

    def _options(self, exchange: Exchange) -> Response:
        """Return the methods of a path, or of all of them (``*``); no key is needed, since /docs lists them too.

        Raises:
            RefusalError: ``not_found`` or ``host_unknown``.
        """
        path = exchange.scope["path"]
        rows = self._table.rows if path == "*" else self._table.find(path)[0]
        if not rows:
            raise RefusalError(ErrorCode.NOT_FOUND)
        if path != "*":
            exchange.endpoint = rows[0]
        self._access.check_host(exchange.headers)
        methods = _methods(rows)
        allowed = {"allow": methods, **self._cross_origin.preflight(exchange.headers, methods)}
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=allowed)

    def _find(self, exchange: Exchange) -> tuple[Endpoint, Mapping[str, str], Format]:
        """Return the endpoint, the parameters of its path and the format of its answer."""
        method = exchange.scope["method"]
        rows, parameters = self._table.find(exchange.scope["path"])
        if not rows:
            raise RefusalError(ErrorCode.NOT_FOUND)
        fitting = [row for row in rows if method in row.methods]
        endpoint = (fitting or rows)[0]
        chosen = exchange.enter(endpoint)
        if not fitting:
            raise RefusalError(ErrorCode.METHOD_NOT_ALLOWED, headers={"allow": _methods(rows)})
        return endpoint, parameters, chosen

    async def _read(
        self, endpoint: Endpoint, headers: Headers, receive: Receive, places: ExitStack
    ) -> tuple[bytes, ...]:
        if not endpoint.takes:
            return ()
        most = endpoint.most_pictures(self._settings.batch_limit)
        reader = endpoint.reader(", ".join(headers.getlist("content-type")), most)  # two are none of the known ones
        decoder = encoding.decoder(headers.getlist("content-encoding"))
        hold = self._access.hold_body(places)
        return await body.read(reader, decoder, receive, headers.get("content-length", ""), self._settings, hold)

    async def _answered(self, endpoint: Endpoint, call: Call, receive: Receive) -> Response:
        """Return the handler's response.

        Raises:
            RefusalError: The request is refused, or the time for its answer is over.
            ClientGoneError: The client closed the connection, so that the request is cancelled.
        """
        handler = endpoint.handler
        running = handler(call) if inspect.iscoroutinefunction(handler) else run_in_threadpool(handler, call)
        work: asyncio.Future[Response] = asyncio.ensure_future(running)
        gone = asyncio.ensure_future(body.wait_until_gone(receive))
        try:
            either: set[asyncio.Future[Any]] = {work, gone}
            seconds = self._settings.request_timeout_seconds
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()  # without effect if it is done
        if work.done() and not work.cancelled():
            return work.result()
        if gone.done() and not gone.cancelled():
            raise ClientGoneError
        raise RefusalError(ErrorCode.TIMEOUT)


def _methods(rows: Sequence[Endpoint]) -> str:
    return ", ".join(dict.fromkeys((*(each for row in rows for each in row.methods), "OPTIONS")))
