"""The client of the service and the answers it returns."""

import base64
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import httpx
from pydantic import Strict, TypeAdapter

from buckler.client.errors import ServiceError, UnreachableError, UnreadableFileError, service_error
from buckler.errors import BucklerError
from buckler.state import proxies
from buckler.trust.public_keys import PublicKeys
from buckler.trust.receipt import Receipt, check

Opinion = Literal["agree", "disagree", "unsure"]

BACKOFF_SECONDS = 0.5  # before the first new attempt to connect; doubles each time


@dataclass(frozen=True, slots=True)
class Detector:
    """Result of the adversarial-input detector: ``adversarial`` if ``score > threshold``."""

    score: float
    threshold: float
    verdict: Literal["clean", "adversarial"]


@dataclass(frozen=True, slots=True)
class Model:
    """The model that answered and the id of its signed verdict."""

    name: str
    version: str
    digest: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one picture.

    Attributes:
        label: The most probable label.
        probabilities: One per label; they sum to one.
        decision: ``review`` if a person must review the answer, else ``accept``.
        reasons: Why it needs review: values of `buckler.detection.reasons.Reason`, or of a newer service.
        receipt: Verified; None unless the client has the public key of the service.
        frame: The frame of the file that was classified, from 1; None unless the request chose one.
        findings: Probability of each finding, of a model whose labels are sets of findings; else None.
        content: The JSON answer as received, to be stored with the picture.
    """

    request_id: str
    label: str
    probabilities: Mapping[str, float]
    decision: Literal["accept", "review"]
    reasons: tuple[str, ...]
    detector: Detector
    model: Model
    receipt: Receipt | None = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)
    frame: int | None = None
    findings: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one picture, and the regions of the picture that decide about a label.

    Attributes:
        answer: The answer, as ``Client.predict`` returns it.
        label: The explained label.
        picture: The picture as the service decoded it, at most 512 pixels a side: a PNG file.
        heat_map: ``shown``; ``flat``: no region stands out; ``unreliable``: the model's heat maps failed their check.
        overlay: The same picture with the regions marked: a PNG file; None unless the heat map is shown.
    """

    answer: Answer
    label: str
    picture: bytes = field(repr=False)
    heat_map: str
    overlay: bytes | None = field(repr=False)


class Client:
    """Client of one service; not thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        receipt_key: PublicKeys | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        longest_wait: float = 30.0,
        headers: Mapping[str, str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Store the settings; the first request connects.

        Args:
            url: Address of the service; behind a proxy of several services with its path, such as ``https://host/skin``.
            key: API key with the role ``predict``, if the service requires keys.
            receipt_key: The service's public keys; with them, every answer must carry a valid receipt.
            timeout: Seconds per attempt.
            retries: Further attempts if the service asks to retry later or refuses the connection.
            longest_wait: Seconds; if the service asks for a longer wait, the error is raised.
            headers: Further headers of every request.
            sleep: Function that waits; replaced in tests.
        """
        authorization = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(
            base_url=url, headers={**(headers or {}), **authorization}, timeout=timeout, mounts=proxies.DIRECT
        )
        self._url, self._receipt_key = url, receipt_key
        self._retries, self._longest_wait, self._sleep = retries, longest_wait, sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, picture: Path | bytes, *, frame: int | None = None) -> Answer:
        """Return the answer to one picture: JPEG, PNG, DICOM, HEIC, AVIF, WebP, TIFF or BMP.

        Args:
            picture: Its file.
            frame: Number of the frame of a DICOM file, from 1; a file of several frames needs one.

        Raises:
            ServiceError: The service refused it; the subclass says what to do, ``code`` why.
            ReceiptError: The receipt is missing or invalid.
            UnreachableError: The service cannot be reached or did not answer in time.
            UnreadableFileError: The file cannot be read, or is a folder, pipe or device.
        """
        content = _read(picture)
        response = self._post("/predict", [content], self._receipt_headers(), _frame(frame))
        with self._understood():
            return self._answer(response.json(), content)

    def predict_many(self, pictures: Sequence[Path | bytes]) -> list[Answer | ServiceError]:
        """Return the answers to several pictures, sent in one request; for an unusable picture its error.

        Raises:
            ServiceError, ReceiptError, UnreachableError, UnreadableFileError: As ``predict``, about the whole request.
        """
        contents = [_read(picture) for picture in pictures]
        response = self._post("/predict", contents, self._receipt_headers())
        request_id = response.headers.get("x-request-id")
        with self._understood():
            items = response.json()["answers"] if len(contents) > 1 else [response.json()]
            return [
                service_error(*_error_in(item), request_id=request_id)
                if "error" in item
                else self._answer(item, content)
                for item, content in zip(items, contents, strict=True)
            ]

    def explain(self, picture: Path | bytes, *, label: str | None = None, frame: int | None = None) -> Explanation:
        """Return the answer to one picture, and the regions that decide about ``label`` (default: the answer's label).

        Args:
            picture, frame: As ``predict``.
            label: One of the model's labels.

        Raises:
            ServiceError, ReceiptError, UnreachableError, UnreadableFileError: As ``predict``.
        """
        content = _read(picture)
        query = _frame(frame) | ({"label": label} if label is not None else {})
        headers = {**self._receipt_headers(), "accept": "application/json"}
        response = self._post("/explain", [content], headers, query)
        with self._understood():
            found = response.json()
            return Explanation(
                answer=self._answer(found["answer"], content),
                label=_text(found["label"]),
                picture=base64.b64decode(found["picture"]),
                heat_map=_text(found["heat_map"]),
                overlay=None if found["overlay"] is None else base64.b64decode(found["overlay"]),
            )

    def feedback(self, request_id: str, opinion: Opinion, *, label: str | None = None) -> int:
        """Record what a clinician thinks of an answer and return the number of its line in the audit log.

        Args:
            request_id: Of the answer.
            opinion: ``agree``, ``disagree`` or ``unsure``.
            label: The label that the clinician would give, if known.

        Raises:
            ServiceError: As ``predict``; ``answer_unknown`` if the service did not give this answer lately.
            UnreachableError: As ``predict``.
        """
        content = {"request_id": request_id, "opinion": opinion} | ({"label": label} if label is not None else {})
        response = self._send("POST", "/feedback", json=content)
        with self._understood():
            return _LINE.validate_python(response.json()["line"])

    def model_card(self) -> dict[str, Any]:
        """Return the model card of the live model.

        Raises:
            ServiceError, UnreachableError: As ``predict``.
        """
        response = self._send("GET", "/model")
        with self._understood():
            return _CARD.validate_python(response.json())

    def _receipt_headers(self) -> dict[str, str]:
        return {"x-buckler-receipt": "ed25519"} if self._receipt_key else {}

    def _post(
        self, path: str, pictures: Sequence[bytes], headers: Mapping[str, str], query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        # File names are not sent: they may identify a patient.
        files = [("image", ("image", picture)) for picture in pictures]
        return self._send("POST", path, files=files, headers=headers, params=query)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        for tries_left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, **content)
            except httpx.ConnectError as error:
                wait, failure = BACKOFF_SECONDS * 2 ** (self._retries - tries_left), self._unreachable(error)
            except httpx.HTTPError as error:  # the service may still be working on it: another attempt would add load
                raise self._unreachable(error) from error
            else:
                if response.status_code < HTTPStatus.BAD_REQUEST:
                    return response
                refusal = _refusal(response, proxies.through(self._url))
                if refusal.retry_after is None:
                    raise refusal
                wait, failure = refusal.retry_after, refusal
            if not tries_left or wait > self._longest_wait:
                raise failure
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: httpx.HTTPError) -> BucklerError:
        reason = str(error) or type(error).__name__
        way = proxies.through(self._url)
        return UnreachableError(f"no answer from {self._url}: {reason}{way}; is the service running at this address?")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn an answer that the service never gives into an error about the address."""
        try:
            yield
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UnreachableError(
                f"expected an answer of Buckler's service from {self._url}, got another; is this its address?"
            ) from error

    def _answer(self, content: dict[str, Any], picture: bytes) -> Answer:
        receipt = None
        if self._receipt_key:
            digest = f"sha256:{hashlib.sha256(picture).hexdigest()}"
            answer = json.dumps(content).encode()
            receipt = check(answer, digest, self._receipt_key, named=("the answer", "the picture"))
        return _ANSWER.validate_python({**content, "receipt": receipt, "content": content})


# Fields of a newer service are ignored; `content` has them.
_ANSWER = TypeAdapter(Answer)
_CARD = TypeAdapter(dict[str, Any])
_LINE = TypeAdapter(Annotated[int, Strict()])


def _read(picture: Path | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        with open(picture, "rb", opener=_open_at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise UnreadableFileError(picture, getattr(error, "strerror", None) or str(error)) from error
    raise UnreadableFileError(picture, "it is a pipe or a device, not a file")


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer too, which would otherwise wait for one without end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _frame(frame: int | None) -> dict[str, str]:
    return {} if frame is None else {"frame": str(frame)}


def _error_in(content: Any) -> tuple[str, str]:
    """Return code and message of an error; raises ``KeyError`` or ``TypeError`` if it is none."""
    return _text(content["error"]["code"]), _text(content["error"]["message"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value


def _refusal(response: httpx.Response, way: str) -> ServiceError:
    try:
        code, message = _error_in(response.json())
    except (KeyError, RecursionError, TypeError, ValueError):  # for example a proxy's error page
        code, message = "unknown", f"{response.status_code} {response.reason_phrase}, not an answer of the service{way}"
    waits = response.headers.get("retry-after", "")
    return service_error(
        code,
        message,
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
        retry_after=float(waits) if waits.isdecimal() else None,
    )
