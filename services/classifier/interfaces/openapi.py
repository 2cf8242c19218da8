"""The OpenAPI document, generated from the table of endpoints, the types of the contract and the error codes.

The document that BentoML generates lacks the errors and allows forms with other fields.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from buckler.error_codes import ErrorCode
from services.classifier.contract import ErrorForm, RefusalError
from services.classifier.records.audit import RECEIPT_KIND
from services.classifier.routing import Body, Endpoint, Format, Table
from services.classifier.settings import MEBIBYTE, Settings

REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = """Classifies pictures and states whether a person must review the answer.

Every served model has a signed verdict of an adversarial evaluation. A picture that looks manipulated gets the
decision `review`. Every answer is recorded in the service's audit log and carries a signed receipt on request. Every
error has a stable code and the same format; under `/v2`, the protocol's own format. A body may be compressed
(`Content-Encoding: gzip` or `deflate`); the limit on its size counts before and after. Every path may end in a slash,
and `OPTIONS` lists its methods. If the service requires keys, a key for predictions cannot read the metrics, and a key
for metrics cannot request predictions."""

KEY = "key"
KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "Created by an operator with `buckler keys create`",
}
TEXT: dict[str, Any] = {"schema": {"type": "string"}}
ALWAYS: dict[str, Any] = {"required": True, **TEXT}
REQUEST_ID: dict[str, Any] = {"required": True, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
BINARY = {"type": "string", "format": "binary"}
SECONDS = {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds; absent if waiting does not help"}
ERROR_HEADERS: Mapping[int, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": ALWAYS},
    HTTPStatus.FORBIDDEN: {"WWW-Authenticate": ALWAYS},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": SECONDS},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": SECONDS},
}
RECEIPT = {
    "name": "X-Buckler-Receipt",
    "in": "header",
    "description": "Requests a signed `receipt` in the answer; `/receipts.pub` returns the public key",
    "schema": {"type": "string", "enum": [RECEIPT_KIND]},
}


def document(settings: Settings, table: Table) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the service."""
    rows = [row for row in table if row.documented]
    models = dict.fromkeys(each for row in rows for each in _models(row))
    _, schemas = models_json_schema(list(models), ref_template=REFERENCE)
    paths: dict[str, Any] = defaultdict(dict)
    for row in rows:
        for path in row.paths:
            paths[path][row.method.lower()] = _operation(row, path, settings)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Buckler classifier", "version": version(), "description": DESCRIPTION},
        "servers": [{"url": ".", "description": "this service"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(row.tag for row in rows)],
        "paths": dict(paths),
        "components": {
            "schemas": {name: _described(schema) for name, schema in schemas["$defs"].items()},
            "securitySchemes": {KEY: KEY_SCHEME},
        },
    }


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without the sections of its class's docstring that only concern Python."""
    if "description" not in schema:
        return schema
    return {**schema, "description": schema["description"].partition("\n\n")[0].replace("``", "`")}


def version() -> str:
    """Return the service's version."""
    try:
        return installed_version("buckler")
    except PackageNotFoundError:  # run from a Bento, which contains the source without installing it
        return "0"


def _models(row: Endpoint) -> Iterable[tuple[type[BaseModel], JsonSchemaMode]]:
    for each in row.gives:
        for model in (*each.models, each.error_form.model):
            if model:
                yield model, "serialization"
    for body in row.takes:
        if body.model:
            yield body.model, "validation"


def _operation(row: Endpoint, path: str, settings: Settings) -> dict[str, Any]:
    texts = {"batch_limit": settings.batch_limit, "body_limit": f"{settings.body_limit_bytes / MEBIBYTE:g} MiB"}
    described = {"description": row.description.format(**texts)} if row.description else {}
    return {
        "tags": [row.tag],
        "operationId": _operation_id(row, path),
        "summary": row.summary,
        **described,
        **({"security": [{KEY: []}]} if row.role and settings.keys_required else {}),
        **_parameters(row, path),
        **_request(row, settings),
        "responses": {"200": _success(row.gives), **_errors(row)},
    }


def _operation_id(row: Endpoint, path: str) -> str:
    """Return a unique id: for a further path, with the parameters that the first one lacks."""
    if path == row.paths[0]:
        return row.name
    more = [name.capitalize() for name in _names(path) if name not in _names(row.paths[0])]
    return f"{row.name}Of{''.join(more)}" if more else f"{row.name}{row.paths.index(path) + 1}"


def _names(path: str) -> list[str]:
    return re.findall(r"{(\w+)", path)


def _parameters(row: Endpoint, path: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [{"name": name, "in": "path", "required": True, **TEXT} for name in _names(path)]
    found += [{"name": each.name, "in": "query", "description": each.description, **TEXT} for each in row.queries]
    found += [RECEIPT] if row.receipts else []
    return {"parameters": found} if found else {}


def _request(row: Endpoint, settings: Settings) -> dict[str, Any]:
    if not row.takes:
        return {}
    most = row.most_pictures(settings.batch_limit)
    return {"requestBody": {"required": True, "content": {each.media_type: _body(each, most) for each in row.takes}}}


def _body(body: Body, most: int) -> dict[str, Any]:
    if body.model:
        return {"schema": _reference(body.model)}
    return dict(body.schema(most)) if body.schema else {"schema": BINARY}


def _success(formats: tuple[Format, ...]) -> dict[str, Any]:
    headers = {"X-Request-ID": REQUEST_ID, **{name: TEXT for each in formats for name in each.headers}}
    described = {each.media_type: each.description for each in formats if each.description}
    return {
        "description": _list(described) if len(described) > 1 else "".join(described.values()) or "Success",
        "headers": headers,
        "content": {each.media_type: _content(each) for each in formats},
    }


def _content(form: Format) -> dict[str, Any]:
    references = [_reference(model) for model in form.models]
    if references:
        return {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    if form.media_type.endswith("json"):
        return {"schema": {"type": "object", "description": form.description}}
    binary = form.media_type.startswith("image/") or form.media_type == "application/octet-stream"
    return {"schema": BINARY} if binary else {}


def _errors(row: Endpoint) -> dict[str, Any]:
    by_status: dict[int, list[ErrorCode]] = defaultdict(list)
    for code in row.error_codes:
        by_status[code.status.value].append(code)
    forms = {each.error_form.media_type: each.error_form for each in row.gives}
    return {
        str(status): {
            "description": _list({code: code.message for code in codes}),
            "headers": {"X-Request-ID": REQUEST_ID, **ERROR_HEADERS.get(status, {})},
            "content": {media_type: _error(form, codes) for media_type, form in forms.items()},
        }
        for status, codes in sorted(by_status.items())
    }


def _list(texts: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {text}" for name, text in texts.items())


def _error(form: ErrorForm, codes: list[ErrorCode]) -> dict[str, Any]:
    examples = {str(code): {"value": form.body(RefusalError(code))} for code in codes}
    return {"schema": _reference(form.model) if form.model else {"type": "object"}, "examples": examples}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}
