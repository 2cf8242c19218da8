"""Chooses body reader, request type and error format by path and headers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Scope

from services.classifier import endpoints
from services.classifier.contract import RefusalError, error_response, oip_error
from services.classifier.endpoints import is_oip
from services.classifier.interfaces.explain import ExplainRequest, requested_label
from services.classifier.interfaces.fhir import FhirRequest, fhir_error, wants_fhir
from services.classifier.interfaces.form import PictureForm
from services.classifier.interfaces.oip import BINARY_HEADER, OipRequest
from services.classifier.records.audit import RECEIPT_WANTED
from services.classifier.requests import PictureBatch, PictureRequest
from services.classifier.settings import Settings

DICOM = "application/dicom"
JSON = "application/json"


class Body(Protocol):
    """Reads a request's body chunk by chunk."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        ...

    def pictures(self) -> tuple[bytes, ...]:
        """Return the files of the complete body."""
        ...


class WholeBody:
    """A body that consists of one file."""

    def __init__(self) -> None:
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        self._content += chunk

    def pictures(self) -> tuple[bytes, ...]:
        """Return the one file."""
        return (bytes(self._content),)


def body_for(path: str, headers: Headers, settings: Settings) -> Body:
    """Return the reader for the body of a request with pictures.

    Raises:
        RefusalError: ``media_type_unsupported``.
    """
    content_type = headers.get("content-type", "")
    if path == endpoints.OIP_INFER:
        # The header announces binary tensors after the JSON, which this service does not accept.
        if _media_type(content_type or JSON) != JSON or BINARY_HEADER in headers:
            raise RefusalError("media_type_unsupported", "expected application/json without binary tensors")
        return WholeBody()
    if _media_type(content_type) == DICOM:
        return WholeBody()
    most = settings.batch_limit if path == endpoints.PREDICT else 1
    return PictureForm(content_type.encode("latin-1"), most=most)


def _media_type(header: str) -> str:
    """Return the media type that a header names, without its parameters."""
    return header.partition(";")[0].strip().lower()


def error_form(scope: Scope) -> Callable[[str, str | None, Mapping[str, str] | None], JSONResponse]:
    """Return the function that turns an error code into an error response in the request's format."""
    if is_oip(scope["path"]):
        return oip_error
    fhir = scope["path"] == endpoints.PREDICT and wants_fhir(Headers(scope=scope).get("accept", ""))
    return fhir_error if fhir else error_response


async def request_for(scope: Scope, pictures: tuple[bytes, ...], settings: Settings) -> PictureRequest | None:
    """Return the typed request; None for one picture with the default format of the answer.

    Raises:
        RefusalError: The request is invalid.
    """
    if scope["path"] == endpoints.OIP_INFER:
        parse = partial(OipRequest.parse, pictures[0], scope["path_params"], most=settings.batch_limit)
        return await to_thread.run_sync(parse)  # parsing many numbers is slow
    if scope["path"] == endpoints.EXPLAIN:
        if RECEIPT_WANTED.get():
            raise RefusalError("receipt_unsupported", "/explain gives no receipts; /predict does")
        return ExplainRequest(pictures[0], requested_label(scope["query_string"]))
    if wants_fhir(Headers(scope=scope).get("accept", "")):
        return FhirRequest(pictures)
    return PictureBatch(pictures) if len(pictures) > 1 else None
