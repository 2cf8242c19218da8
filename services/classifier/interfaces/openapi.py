"""The OpenAPI document, built from the contract's types and error codes.

The document that BentoML generates lacks the errors and allows forms with other fields.
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
from services.classifier.contract import ERRORS, Answer, BatchAnswer, ErrorAnswer
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

DESCRIPTION = """Classifies pictures and states whether a person must review the answer.

Every served model has a signed verdict of an adversarial evaluation. A picture that looks manipulated gets the
decision `review`. Every answer is recorded in the service's audit log and carries a signed receipt on request. Every
error has a stable code and the same format; under `/v2`, the protocol's own format. If the service requires keys, a key
for predictions cannot read the metrics, and a key for metrics cannot request predictions."""

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
KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "Created by an operator with `buckler keys create`",
}
KEY_CODES = ("key_missing", "key_unknown", "role_forbidden", "keys_unavailable")
TEXT = {"schema": {"type": "string"}}
SECONDS = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds; absent if waiting does not help"}
ERROR_HEADERS: dict[HTTPStatus, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": TEXT},
    HTTPStatus.FORBIDDEN: {"WWW-Authenticate": TEXT},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": SECONDS},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": SECONDS},
}

OIP_ERROR = {
    "description": "One text that begins with the code, as the protocol requires",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            "example": {"error": "model_unknown: no model of this name and version answers here"},
        }
    },
}

# Codes that only other paths or methods return.
_NEVER = ("not_found", "method_not_allowed", "bad_request")
_OF_FORMS = ("field_missing", "field_repeated", "field_unknown")
_OF_OIP = ("tensor_invalid", "model_unknown")
NOT_OF_PREDICT = (*_NEVER, *_OF_OIP, "field_repeated", "label_unknown")
NOT_OF_EXPLAIN = (*_NEVER, *_OF_OIP, "too_many_pictures", "receipt_unavailable")
NOT_OF_OIP = (*_NEVER, *_OF_FORMS, "label_unknown")


def document(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the service."""
    models = [(each, "serialization") for each in (Answer, BatchAnswer, ErrorAnswer, ModelCard, *OIP_MODELS)]
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
            "/livez": {"get": _probe("livez", "200 while the process answers")},
            "/readyz": {"get": _probe("readyz", "200 once a verified model is loaded") | _not_ready()},
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
    except PackageNotFoundError:  # run from a Bento, which contains the source without installing it
        return "0"


def _predict(settings: Settings) -> dict[str, Any]:
    limit = settings.body_limit_bytes
    return {
        "tags": ["prediction"],
        "operationId": "predict",
        **_security(settings),
        "summary": "Classify one or more pictures",
        "description": f"""Takes JPEG, PNG or DICOM (one frame, uncompressed or baseline JPEG), recognised by content. \
Of a DICOM file, only the elements that describe the pixels are read; one DICOM file may also be the body itself. \
The field may be repeated up to {settings.batch_limit} times; the \
request has at most {limit / MEBIBYTE:g} MiB. The response to one picture is its answer. The response to several is \
`answers` in their order, with an `error` in the place of each unusable picture. Each picture \
counts towards the key's limits, and each answer is recorded in the audit log. With `Accept: {FHIR_JSON}`, the \
answer is a FHIR R4 `DiagnosticReport` with status `preliminary`, several are a `Bundle`, and an error is an \
`OperationOutcome`.""",
        "parameters": [
            {
                "name": "X-Buckler-Receipt",
                "in": "header",
                "description": f"Requests a signed `receipt` in the answer; `{RECEIPT_KEY}` returns the public key",
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
        "summary": "Show the regions of a picture that support a label",
        "description": """Draws a Grad-CAM map over the picture; yellow regions speak most for the label. The map is \
coarse, with cells of a sixteenth of the side. It is a hint where to look and no evidence that the answer is right. \
The picture is classified and logged as by `/predict`.""",
        "parameters": [
            {
                "name": "label",
                "in": "query",
                "description": "The label to explain; default: the predicted label",
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
                "description": "The picture with the map, at most 512 pixels a side",
                "headers": {LABEL_HEADER: header, DECISION_HEADER: header},
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
            },
            **_errors(code for code in ERRORS if code not in NOT_OF_EXPLAIN),
        },
    }


def _oip(settings: Settings) -> dict[str, Any]:
    """Return the paths of the Open Inference Protocol, each with and without a version."""
    named = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    paths: dict[str, Any] = {
        OIP: {"get": _oip_read("oipServer", "Name and version of the server", ServerMetadata) | _security(settings)},
        OIP_LIVE: {"get": _oip_read("oipLive", "200 while the process answers", None)},
        OIP_READY: {"get": _oip_read("oipReady", "200 once a verified model is loaded", None)},
    }
    for part, suffix, parameters in (
        ("/{name}", "", [named]),
        ("/{name}/versions/{version}", "OfVersion", [named, {**named, "name": "version"}]),
    ):
        metadata = _oip_read(f"oipModel{suffix}", "Inputs and outputs", ModelMetadata) | _security(settings)
        ready = _oip_read(f"oipModelReady{suffix}", "200 if this model is live", None)
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
        "description": f"""Takes either `images`, FP32 in 0..1 with the side that the model's metadata states, or \
`files`, BYTES: JPEG, PNG or DICOM in base64; up to {settings.batch_limit} pictures. The outputs have `decision`, \
`reasons` and `detector_score` of each picture, `parameters` the same of all pictures together. An unusable picture \
refuses the whole request. Error codes: {codes}.""",
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "The answers", "content": {"application/json": {"schema": response}}},
            "default": OIP_ERROR,
        },
    }


def _security(settings: Settings) -> dict[str, Any]:
    return {"security": [{KEY: []}]} if settings.keys_required else {}


def _success() -> dict[str, Any]:
    schema = {"anyOf": [{"$ref": REFERENCE.format(model=each.__name__)} for each in (Answer, BatchAnswer)]}
    return {
        "description": "The answer; for several pictures, the answers",
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
        "summary": "Public key that checks receipts, in PEM; `not_found` if the service signs none",
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
        "summary": "Card of the live model: evaluation, robustness and limits",
        "description": f"HTML with `Accept: text/html`, and always at `{CARD_PAGE}`.",
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
