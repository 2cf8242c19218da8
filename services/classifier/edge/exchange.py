"""One request and its answer, as the network sees them: status, headers, metrics and log line."""

import logging
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from services.classifier import metrics
from services.classifier.contract import ErrorForm, RefusalError
from services.classifier.edge.cross_origin import CrossOrigin
from services.classifier.negotiation import NotAcceptableError, choose
from services.classifier.requests import new_id
from services.classifier.routing import OTHER, Endpoint, Format

REQUEST_ID_HEADER = "x-request-id"
NOT_LOGGED = "-"

logger = logging.getLogger("buckler.service")


class Exchange:
    """One request and its answer.

    Attributes:
        endpoint: The row that answers it; None until it is found.
        key_id: Id of the client's key, for the log.
    """

    def __init__(self, scope: Scope, send: Send, error_form: ErrorForm, cross_origin: CrossOrigin) -> None:
        """Begin; errors are written by ``error_form`` until the endpoint is known."""
        self._cross_origin = cross_origin
        self.scope, self.headers = scope, Headers(scope=scope)
        self.request_id = new_id()
        self.endpoint: Endpoint | None = None
        self.key_id = NOT_LOGGED
        self._error_form = error_form
        self._send = send
        self._started = time.perf_counter()
        self._status = 0
        self._code = NOT_LOGGED

    def enter(self, endpoint: Endpoint) -> Format:
        """Note the endpoint and return the format of the answer that the client asks for.

        Raises:
            NotAcceptableError: It is not served.
        """
        self.endpoint = endpoint
        try:
            chosen = choose(endpoint.gives, ",".join(self.headers.getlist("accept")))
        except NotAcceptableError as refusal:
            self._error_form = refusal.form
            raise
        self._error_form = chosen.error_form
        return chosen

    def refusal(self, refusal: RefusalError) -> Response:
        """Return the response to a refused request in the client's format."""
        self._code = refusal.code
        return self._error_form.response(refusal)

    async def answer(self, response: Response, receive: Receive) -> None:
        """Send a response."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                self._add_headers(MutableHeaders(scope=message))
            await self._send(message)

        await response(self.scope, receive, send)

    async def give_up(self) -> None:
        """End the exchange after the client closed the connection.

        BentoML's timeout waits for an answer to start. Without this start, which the server discards, each closed
        connection would leave a task until that timeout, and a shutdown would wait for it.
        """
        self._status = int(metrics.CLIENT_GONE)
        await self._send({"type": "http.response.start", "status": self._status, "headers": []})

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers[REQUEST_ID_HEADER] = self.request_id
        headers["x-content-type-options"] = "nosniff"
        self._cross_origin.add_to(headers, self.headers)
        if self.endpoint and self.endpoint.pictures:
            headers["cache-control"] = "no-store"

    def record(self) -> None:
        """Count the request and write its log line."""
        if not self._status:
            return  # the server is shutting down
        seconds = time.perf_counter() - self._started
        label = self.endpoint.label if self.endpoint else OTHER
        metrics.REQUESTS.labels(endpoint=label, code=str(self._status)).inc()
        metrics.REQUEST_SECONDS.labels(endpoint=label).observe(seconds)
        quiet = self.endpoint and self.endpoint.probe and self._status < HTTPStatus.BAD_REQUEST
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "request=%s endpoint=%s key=%s status=%d error=%s milliseconds=%.1f",
            self.request_id,
            label,
            self.key_id,
            self._status,
            self._code,
            1000 * seconds,
        )
