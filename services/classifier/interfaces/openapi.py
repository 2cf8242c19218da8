"""The OpenAPI document, written from the contract's own types and table of errors.

BentoML's generated one knows neither our errors nor that a form with anything but the picture is refused.
"""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from buckler.serving.model_card import ModelCard
from services.classifier.contract import ERRORS, Answer, Answers, ErrorAnswer
from services.classifier.endpoints import (
    CARD,
    CARD_PAGE,
    EXPLAIN,
    OIP,
    OIP_LIVE,
    OIP_MODEL,
    OIP_READY,
    PREDICT,
    RECEIPT_KEY,
)
from services.classifier.interfaces.explain import DECISION_HEADER, LABEL_HEADER
from services.classifier.interfaces.fhir import FHIR_JSON
from services.classifier.interfaces.form import FIELD
from services.classifier.interfaces.negotiation import DICOM
from services.classifier.interfaces.oip import InferRequest, InferResponse, ModelMetadata, ServerMetadata
from services.classifier.records.audit import RECEIPT_KIND
from services.classifier.settings import MEBIBYTE, Settings

OIP_MODELS = (InferRequest, InferResponse, ModelMetadata, ServerMetadata)
REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = """Classifies pictures and says whether the answers may be relied on.

Every model that answers carries a signed verdict of an adversarial evaluation; a picture that looks
manipulated is answered with the decision `review`. Every answer is a line of the service's audit log; on request
it carries a signed receipt. Every error has a stable code and the same form, under `/v2` the protocol's own. Where
the service asks for keys, one that is for predictions cannot read the metrics, nor the other way round."""

ANSWER_EXAMPLE = {
    "request_id": "5b6f0c1d9d3b4e6fb0a3a1f2c4d5e6f7",
    "label": "benign",
    "probabilities": {"benign": 0.93, "malignant": 0.07},
    "decision": "accept",
    "reasons": [],
    "detector": {"score": 0.4, "threshold": 2.1, "verdict": "clean"},
    "model": {"name": "skin-lesion", "version": "3", "digest": "sha256:5d41…", "verdict": "sha256:7d79…"},
}

KEY = "key"
KEY_SCHEME = {"type": "http", "scheme": "bearer", "description": "A key that an operator made: `buckler keys create`"}
KEY_CODES = ("key_missing", "key_unknown", "role_forbidden", "keys_unavailable")
TEXT = {"schema": {"type": "string"}}
SECONDS = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds; absent where waiting does not help"}
ERROR_HEADERS: dict[HTTPStatus, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": TEXT},
    HTTPStatus.FORBIDDEN: {"WWW-Authenticate": TEXT},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": SECONDS},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": SECONDS},
}

OIP_ERROR = {
    "description": "As the protocol has it: one text, which begins with the code",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            "example": {"error": "model_unknown: no model of this name and version answers here"},
        }
    },
}

# Codes that only the answers of other paths or methods hold.
_NEVER = ("not_found", "method_not_allowed", "bad_request")
_OF_FORMS = ("field_missing", "field_repeated", "field_unknown")
_OF_OIP = ("tensor_invalid", "model_unknown")
NOT_OF_PREDICT = (*_NEVER, *_OF_OIP, "field_repeated", "label_unknown")
NOT_OF_EXPLAIN = (*_NEVER, *_OF_OIP, "too_many_pictures", "receipt_unavailable")
NOT_OF_OIP = (*_NEVER, *_OF_FORMS, "label_unknown")


def document(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the service."""
    models = [(each, "serialization") for each in (Answer, Answers, ErrorAnswer, ModelCard, *OIP_MODELS)]
    _, schemas = models_json_schema(models, ref_template=REFERENCE)  # type: ignore[arg-type]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Buckler classifier", "version": version(), "description": DESCRIPTION},
        "servers": [{"url": ".", "description": "this service"}],
        "tags": [{"name": "prediction"}, {"name": "Open Inference Protocol"}, {"name": "operation"}],
        "paths": {
            PREDICT: {"post": _predict(settings)},
            EXPLAIN: {"post": _explain(settings)},
            **_oip(settings),
            "/livez": {"get": _probe("livez", "Answers while the process does")},
            "/readyz": {"get": _probe("readyz", "Answers 200 once a verified model is loaded") | _not_ready()},
            "/metrics": {"get": _metrics(settings)},
            CARD: {"get": _card(settings)},
            RECEIPT_KEY: {"get": _receipt_key()},
        },
        "components": {"schemas": schemas["$defs"], "securitySchemes": {KEY: KEY_SCHEME}},
    }


def version() -> str:
    """Return the service's version."""
    try:
        return installed_version("buckler")
    except PackageNotFoundError:  # run from a Bento, which holds the source but installs nothing
        return "0"


def _predict(settings: Settings) -> dict[str, Any]:
    limit = settings.body_limit_bytes
    return {
        "tags": ["prediction"],
        "operationId": "predict",
        **_security(settings),
        "summary": "Classify a picture, or several",
        "description": f"""JPEG, PNG or DICOM (one frame, uncompressed or baseline JPEG), by content; of a DICOM file \
only what describes its pixels is read. One DICOM file may also be the body itself. \
The field may be repeated up to {settings.batch_limit} times; the \
request has at most {limit / MEBIBYTE:g} MiB. One picture is answered by itself, several by `answers` in their order, \
where one that is not usable has its `error` in its place and the others are answered all the same. Each picture \
counts against the key's limits, and each answer is a line of the audit log. Asked with `Accept: {FHIR_JSON}`, the \
answer is a FHIR R4 `DiagnosticReport` with status `preliminary`, several are a `Bundle` of them, and an error is an \
`OperationOutcome`.""",
        "parameters": [
            {
                "name": "X-Buckler-Receipt",
                "in": "header",
                "description": f"Asks for a signed `receipt` in the answer; `{RECEIPT_KEY}` is its public key",
                "schema": {"type": "string", "enum": [RECEIPT_KIND]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": [FIELD],
                        "additionalProperties": False,
                        "properties": {
                            FIELD: {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                                "minItems": 1,
                                "maxItems": settings.batch_limit,
                                "description": "The pictures; their file names are ignored",
                            }
                        },
                    },
                    "encoding": {FIELD: {"contentType": f"image/jpeg, image/png, {DICOM}"}},
                },
                DICOM: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {"200": _success(), **_errors(code for code in ERRORS if code not in NOT_OF_PREDICT)},
    }


def _explain(settings: Settings) -> dict[str, Any]:
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: {"type": "string", "format": "binary"}}}
    header = {"schema": {"type": "string"}}
    return {
        "tags": ["prediction"],
        "operationId": "explain",
        **_security(settings),
        "summary": "Show where the model looked in one picture",
        "description": """Grad-CAM, painted over the picture: yellow spoke most for the label. It is coarse, a \
sixteenth of the side, and a hint at what to look at, no reason to believe the answer. The picture is \
answered and logged as by `/predict`.""",
        "parameters": [
            {
                "name": "label",
                "in": "query",
                "description": "For which label; by default the answer's own",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                DICOM: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "The painted picture, at most 512 pixels a side",
                "headers": {LABEL_HEADER: header, DECISION_HEADER: header},
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            },
            **_errors(code for code in ERRORS if code not in NOT_OF_EXPLAIN),
        },
    }


def _oip(settings: Settings) -> dict[str, Any]:
    """The Open Inference Protocol's paths, each with a version and without."""
    named = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths: dict[str, Any] = {
        OIP: {"get": _oip_read("oipServer", "What the server is", ServerMetadata) | _security(settings)},
        OIP_LIVE: {"get": _oip_read("oipLive", "Answers while the process does", None)},
        OIP_READY: {"get": _oip_read("oipReady", "Answers 200 once a verified model is loaded", None)},
    }
    for part, suffix, parameters in (
        ("/{name}", "", [named]),
        ("/{name}/versions/{version}", "OfVersion", [named, {**named, "name": "version"}]),
    ):
        metadata = _oip_read(f"oipModel{suffix}", "What the model takes and gives", ModelMetadata) | _security(settings)
        ready = _oip_read(f"oipModelReady{suffix}", "Whether this model answers", None)
        paths[f"{OIP_MODEL}{part}"] = {"parameters": parameters, "get": metadata}
        paths[f"{OIP_MODEL}{part}/ready"] = {"parameters": parameters, "get": ready}
        paths[f"{OIP_MODEL}{part}/infer"] = {"parameters": parameters, "post": _oip_infer(settings, suffix)}
    return paths


def _oip_read(name: str, summary: str, model: type[BaseModel] | None) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=model.__name__)} if model else {"type": "object"}
    return {
        "tags": ["Open Inference Protocol"],
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "Yes", "content": {"application/json": {"schema": schema}}},
            "default": OIP_ERROR,
        },
    }


def _oip_infer(settings: Settings, suffix: str) -> dict[str, Any]:
    request, response = ({"$ref": REFERENCE.format(model=each.__name__)} for each in (InferRequest, InferResponse))
    codes = ", ".join(f"`{code}`" for code in ERRORS if code not in NOT_OF_OIP)
    return {
        **_oip_read(f"oipInfer{suffix}", "Classify pictures sent as tensors or files", None),
        **_security(settings),
        "description": f"""Either `images`, FP32 in 0..1 of the side that the model's metadata states, or `files`, \
BYTES: JPEG, PNG or DICOM in base64; up to {settings.batch_limit}. `parameters` say for all pictures together what the \
outputs say for each: `decision`, `reasons`, `detector_verdict`. One picture that is not usable refuses the request. \
The codes: {codes}.""",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "The answers", "content": {"application/json": {"schema": response}}},
            "default": OIP_ERROR,
        },
    }


def _security(settings: Settings) -> dict[str, Any]:
    return {"security": [{KEY: []}]} if settings.keys_required else {}


def _success() -> dict[str, Any]:
    schema = {"anyOf": [{"$ref": REFERENCE.format(model=each.__name__)} for each in (Answer, Answers)]}
    return {
        "description": "The answer; the answers, where several pictures were sent",
        "headers": {"X-Request-ID": {"schema": {"type": "string"}}},
        "content": {
            "application/json": {"schema": schema, "example": ANSWER_EXAMPLE},
            FHIR_JSON: {"schema": {"type": "object", "description": "FHIR R4 `DiagnosticReport` or `Bundle`"}},
        },
    }


def _errors(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[HTTPStatus, list[str]] = defaultdict(list)
    for code in codes:
        by_status[ERRORS[code][0]].append(code)
    return {
        str(status.value): _error(codes) | ({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {})
        for status, codes in sorted(by_status.items())
    }


def _error(codes: list[str]) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=ErrorAnswer.__name__)}
    examples = {code: {"value": {"error": {"code": code, "message": ERRORS[code][1]}}} for code in codes}
    return {
        "description": "; ".join(f"`{code}`: {ERRORS[code][1]}" for code in codes),
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _probe(name: str, summary: str) -> dict[str, Any]:
    return {
        "tags": ["operation"],
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "Yes", "content": {"text/plain": {}}}},
    }


def _not_ready() -> dict[str, Any]:
    yes = {"description": "Yes", "content": {"text/plain": {}}}
    return {"responses": {"200": yes, "503": _error(["no_verified_model", "model_withdrawn"])}}


def _receipt_key() -> dict[str, Any]:
    return {
        "tags": ["operation"],
        "operationId": "receiptKey",
        "summary": "Public key that receipts are checked with, in PEM form; `not_found` where none are signed",
        "responses": {
            "200": {"description": "The key", "content": {"application/x-pem-file": {}}},
            "404": _error(["not_found"]),
        },
    }


def _card(settings: Settings) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=ModelCard.__name__)}
    success = {"description": "The card", "content": {"application/json": {"schema": schema}, "text/html": {}}}
    return {
        "tags": ["operation"],
        "operationId": "modelCard",
        "summary": "The model that answers: how it was measured, what it withstood, what its limits are",
        "description": f"With `Accept: text/html`, and always at `{CARD_PAGE}`, as a page for people.",
        **_security(settings),
        "responses": {"200": success, **_errors((*KEY_CODES, "no_verified_model"))},
    }


def _metrics(settings: Settings) -> dict[str, Any]:
    success = {"description": "The metrics", "content": {"text/plain": {}}}
    return {
        "tags": ["operation"],
        "operationId": "metrics",
        "summary": "Metrics of all workers, in Prometheus' text format",
        **_security(settings),
        "responses": {"200": success, **_errors(KEY_CODES)},
    }
