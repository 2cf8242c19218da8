"""Fuzz target: a whole request, from its head to its answer, through the service's own path.

The network is the mean of the pixels; everything else is the product: routing, keys, limits, body, decoder, formats.
"""

import asyncio
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h11
import numpy as np

from buckler.error_codes import ErrorCode
from buckler.models.info import ModelInfo
from buckler.serving.api_keys import ApiKey, Role
from buckler.serving.predictor import Prediction
from services.classifier import metrics
from services.classifier.edge.front_door import FrontDoor
from services.classifier.edge.heads import StrictBuffer
from services.classifier.endpoints import ENDPOINTS
from services.classifier.pipeline import ClassifierPipeline
from services.classifier.served import Served
from services.classifier.settings import Settings
from tests.forms import pictures_of
from tests.fuzz.contract import require
from tests.fuzz.mutation import of_parts
from tests.verdicts import verdict

SECRETS = {Role.PREDICT: "bk_predict", Role.OPERATE: "bk_operate"}
PATIENT = b"Mustermann"  # in metadata and file names of the corpus; no answer may quote it
SIDE = 8
LABELS = ("benign", "malignant")


class Mean:
    """A predictor: the mean of the pixels is the probability of the first label."""

    labels, form = LABELS, pictures_of(SIDE)
    precision = "float32"
    heat_maps_reliable = True

    def __init__(self) -> None:
        self.verdict = verdict()
        self.digest = self.verdict.subject_digest
        self.info = ModelInfo(LABELS, LABELS[1:], self.form.shape, "sha256:test", architecture="tiny")

    def __call__(self, pixels: Any, **_: Any) -> Prediction:
        require(pixels.shape == self.form.shape and pixels.dtype == np.float32, "unexpected pixels")
        share = float(pixels.mean())
        require(0 <= share <= 1, "pixels outside 0..1")
        shares = dict(zip(LABELS, (share, 1 - share), strict=True))
        return Prediction(
            max(shares, key=shares.__getitem__), shares, "accept", (), 0.5, 2.1, "clean", sketch=(0.0,) * 8
        )

    def predict_and_explain(self, pixels: Any, label: str | None = None, **_: Any) -> tuple[Prediction, Any]:
        require(label in (None, *LABELS), "an unknown label")
        return self(pixels), pixels.mean(axis=2)


class Failures(logging.Handler):
    """Keeps the exceptions that the front door answers with 500."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record."""
        if record.exc_info and record.exc_info[1]:
            self.found.append(record.exc_info[1])


@cache
def _service() -> tuple[dict[str, FrontDoor], asyncio.AbstractEventLoop, Failures]:
    """Return the front doors with and without keys, the loop in which they run, and their failures."""
    scratch = Path(tempfile.mkdtemp(prefix="buckler-fuzz-"))
    ring = [
        ApiKey(role[:8], role, role, sha256(secret.encode()).hexdigest(), "2026-01-01")
        for role, secret in SECRETS.items()
    ]
    (scratch / "keys.json").write_text(json.dumps({"schema": 1, "keys": [asdict(key) for key in ring]}))
    settings = Settings(
        bound_host="127.0.0.1",
        api_keys=scratch / "keys.json",
        audit_log="off",
        traffic_url="off",
        query_attack="off",
        batch_limit=4,
        body_limit_bytes=65_536,
        key_requests_per_second=1e9,
        key_burst=10**9,
    )
    metrics.create_series(ENDPOINTS)
    loop = asyncio.new_event_loop()
    pipeline = ClassifierPipeline(settings, ENDPOINTS, Served(Mean(), "skin-lesion", "3"), schema=dict)
    failures = Failures()
    logger = logging.getLogger("buckler.service")
    logger.addHandler(failures)
    logger.propagate = False

    async def not_http(*_: Any) -> None:
        raise AssertionError("every request is answered by the front door")

    doors = {
        keys: FrontDoor(not_http, settings.model_copy(update={"require_keys": keys}), ENDPOINTS, lambda: pipeline)
        for keys in ("always", "never")
    }
    return doors, loop, failures


def door(data: bytes) -> bool:
    """A request as its bytes arrive, to a service that requires keys and to one that checks the host's name instead."""
    request = _parsed(data)
    if request is None:
        return False
    doors, loop, failures = _service()
    statuses = set()
    for app in doors.values():
        failures.found.clear()
        head, content = loop.run_until_complete(_asked(app, *request))
        if failures.found:
            raise failures.found[0]
        _check(request[0], head, content)
        statuses.add(head["status"])
    return 200 in statuses


def _parsed(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the scope of a request and its body, as uvicorn passes them on; None if there is no whole request."""
    connection = h11.Connection(h11.SERVER)
    connection._receive_buffer = StrictBuffer()
    head, body = None, b""
    try:
        connection.receive_data(data)
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return None
    except h11.RemoteProtocolError:
        return None
    if head is None:
        return None
    path, _, query = head.target.partition(b"?")
    return {
        "type": "http",
        "http_version": "1.1",
        "method": head.method.decode("ascii"),
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in head.headers],
    }, body


async def _asked(app: FrontDoor, scope: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    messages = _messages(body)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        found = next(messages, None)
        if found is None:
            await asyncio.Event().wait()  # the client waits for its answer
        return found or {}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0], b"".join(each.get("body", b"") for each in sent[1:])


def _messages(body: bytes) -> Iterator[dict[str, Any]]:
    middle = len(body) // 2
    yield {"type": "http.request", "body": body[:middle], "more_body": True}
    yield {"type": "http.request", "body": body[middle:], "more_body": False}


def _check(scope: dict[str, Any], head: dict[str, Any], content: bytes) -> None:
    status, headers = head["status"], dict(head["headers"])
    rows, _ = ENDPOINTS.find(scope["path"])
    allowed = {307 if scope["path"] == "/" else 200, ErrorCode.NOT_FOUND.status, ErrorCode.METHOD_NOT_ALLOWED.status}
    allowed |= {204, ErrorCode.HOST_UNKNOWN.status} if scope["method"] == "OPTIONS" else set()
    allowed |= {code.status for row in rows for code in row.error_codes} - {ErrorCode.INTERNAL_ERROR.status}
    require(status in allowed, f"the status {status} is not documented: {content[:200]!r}")
    require(headers[b"x-request-id"], "no request id")
    require(headers[b"x-content-type-options"] == b"nosniff", "no nosniff")
    require(PATIENT not in content, "the answer quotes the request")
    if status >= 400 and scope["method"] != "HEAD":
        _check_error(json.loads(content))
    elif b"fhir+json" in headers.get(b"content-type", b""):
        require(json.loads(content)["resourceType"] in ("DiagnosticReport", "Bundle"), f"got {content[:200]}")


def _check_error(content: dict[str, Any]) -> None:
    """Check an error in one of the three forms."""
    if content.get("resourceType") == "OperationOutcome":
        code = content["issue"][0]["details"]["text"]
    elif isinstance(content["error"], str):
        code = content["error"].partition(":")[0]
    else:
        code = content["error"]["code"]
    require(ErrorCode.known(code), f"unknown code {code!r}")


def _parts(data: bytes) -> list[bytes]:
    """Return the lines of the head and of a form, and the bytes after them."""
    return [line + b"\r\n" for line in data.split(b"\r\n")]


def _joined(parts: list[bytes]) -> bytes:
    """Return the request with the length of its body."""
    head, gap, body = b"".join(parts)[:-2].partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    if b"chunked" in head:
        return b"\r\n".join(lines) + gap + body
    return b"\r\n".join([*lines, b"content-length: %d" % len(body)]) + gap + body


MUTATORS = {"door": of_parts(_parts, _joined)}
