"""Compares the answers that tests get from the classifier service with its OpenAPI document.

It checks every answer that httpx receives from a service in `running.SERVICES`, and the form of every error of a front
door in this process, whose handlers are the test's own. A test fails if it got an answer that the document does not
allow.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator, ValidationError

from buckler.error_codes import ErrorCode
from services.classifier.edge.front_door import FrontDoor
from services.classifier.interfaces.openapi import document
from services.classifier.routing import Endpoint, Table
from services.classifier.settings import Settings
from tests.services import running

Responses = Mapping[str, Mapping[str, Any]]  # OpenAPI response objects by status

REDIRECT = 307
TEXT = {"required": True, "schema": {"type": "string"}}


class MismatchError(AssertionError):
    """An answer differs from the document."""


class Contract:
    """The document of a table of endpoints. Limits and keys, which depend on the settings, are not compared."""

    def __init__(self, table: Table) -> None:
        self._table = table
        content = document(Settings(), table)
        self._components = closed(content["components"])
        self._paths = [(re.compile(_pattern(path)), operations) for path, operations in content["paths"].items()]
        self._validators: dict[str, Draft202012Validator] = {}

    def check(self, response: httpx.Response) -> None:
        """Raise `MismatchError` if the document does not allow the answer."""
        request = response.request
        self._check(response, self._responses(request.method, request.url.path))

    def check_error(self, response: httpx.Response) -> None:
        """Raise `MismatchError` if an error, whatever its status, does not have a documented form."""
        form = _error(self._error_forms(response.request.url.path))
        self._check(response, {str(response.status_code): form})

    def _responses(self, method: str, path: str) -> Responses:
        hidden = [row for row in self._table.find(path)[0] if not row.documented]
        if hidden:
            codes = {ErrorCode.METHOD_NOT_ALLOWED, *(code for row in hidden for code in row.error_codes)}
            return {str(status): {} for status in (200, REDIRECT, *(code.status.value for code in codes))}
        operations = self._operations(path)
        if not operations:
            return {"404": _error(self._error_forms(path), ErrorCode.NOT_FOUND)}
        if method == "OPTIONS":
            return {"204": {"headers": {"Allow": TEXT, "X-Request-ID": TEXT}}}
        operation = operations.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            return {"405": _error(self._error_forms(path), ErrorCode.METHOD_NOT_ALLOWED, "Allow")}
        responses: Responses = operation["responses"]
        return responses

    def _operations(self, path: str) -> Mapping[str, Any]:
        path = path[:-1] if path.endswith("/") and len(path) > 1 else path
        return next((operations for pattern, operations in self._paths if pattern.fullmatch(path)), {})

    def _error_forms(self, path: str) -> Mapping[str, Any]:
        for operation in self._operations(path).values():
            forms: Mapping[str, Any] = operation["responses"]["500"]["content"]
            return forms
        model = "OipError" if path.startswith("/v2/") else "ErrorAnswer"
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}}

    def _check(self, response: httpx.Response, responses: Responses) -> None:
        try:
            self._compare(response, responses)
        except MismatchError as error:
            asked = f"{response.request.method} {response.request.url.path}"
            raise MismatchError(f"{asked} answered {response.status_code}: {error}") from None

    def _compare(self, response: httpx.Response, responses: Responses) -> None:
        documented = responses.get(str(response.status_code))
        if documented is None:
            raise MismatchError(f"expected one of the documented statuses {', '.join(sorted(responses))}")
        for name, header in documented.get("headers", {}).items():
            self._check_header(name, header, response.headers.get(name))
        if "content" not in documented or response.request.method == "HEAD":
            return
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if media_type not in documented["content"]:
            raise MismatchError(f"expected one of {', '.join(documented['content'])}, got {media_type or 'none'}")
        if media_type.endswith("json") and response.is_closed:  # whoever streams an answer gets it later
            self._check_json(response.content, documented["content"][media_type])

    def _check_header(self, name: str, header: Mapping[str, Any], value: str | None) -> None:
        if value is None:
            if header.get("required"):
                raise MismatchError(f"expected the header {name}, got none")
            return
        schema = header["schema"]
        is_number = schema["type"] == "integer" and value.isdecimal()
        for fault in Draft202012Validator(schema).iter_errors(int(value) if is_number else value):
            raise MismatchError(f"the header {name} does not match its schema: {fault.message}")

    def _check_json(self, text: bytes, content: Mapping[str, Any]) -> None:
        try:
            body = json.loads(text, parse_constant=_not_json)
        except ValueError as error:
            raise MismatchError(f"expected JSON: {error}") from error
        faults = [text for error in self._validator(content["schema"]).iter_errors(body) for text in _leaves(error)]
        if faults:
            raise MismatchError(f"the body does not match its schema: {'; '.join(faults)}")
        examples = content.get("examples")
        if examples and (code := _code(body)) not in examples:
            raise MismatchError(f"expected one of the error codes {', '.join(examples)}, got {code}")

    def _validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        key = json.dumps(schema)
        if key not in self._validators:
            self._validators[key] = Draft202012Validator({"components": self._components, **schema})
        return self._validators[key]


def closed(schema: Any) -> Any:
    """Return a schema whose objects allow no field that it does not name: a new field must be documented, too."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return more | {name: closed(value) for name, value in schema.items()}


def _leaves(error: ValidationError) -> Iterator[str]:
    """Yield what is wrong and where; of alternatives, for each of them."""
    if error.context:
        for each in error.context:
            yield from _leaves(each)
    else:
        yield f"{error.json_path}: {error.message}"


def _pattern(path: str) -> str:
    return "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"({\w+})", path))


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _error(forms: Mapping[str, Any], code: ErrorCode | None = None, *headers: str) -> dict[str, Any]:
    """Return the response object of an error with this code, any without one, and with these headers."""
    examples = {"examples": {str(code): {}}} if code else {}
    content = {kind: {"schema": form["schema"], **examples} for kind, form in forms.items()}
    return {"headers": dict.fromkeys(("X-Request-ID", *headers), TEXT), "content": content}


def _code(body: Mapping[str, Any]) -> str:
    """Return the code of an error in any of the three forms."""
    if body.get("resourceType") == "OperationOutcome":
        return str(body["issue"][0]["details"]["text"])
    error = body["error"]
    return str(error["code"] if isinstance(error, dict) else error.partition(":")[0])


def contract(table: Table) -> Contract:
    """Return the document of a table, whoever answers its requests."""
    return _contract(tuple(replace(row, handler=repr) for row in table))


@cache
def _contract(rows: tuple[Endpoint, ...]) -> Contract:
    return Contract(Table(rows))


class Watch:
    """Finds answers of the classifier service that differ from its document.

    Attributes:
        services: The endpoints of the services to watch, by address.
    """

    def __init__(self, services: Mapping[str, Table]) -> None:
        self.services = services
        self._found: list[str] = []

    def look(self, client: httpx.Client | httpx.AsyncClient, response: httpx.Response) -> None:
        """Check an answer and those that redirected to it."""
        for each in (*response.history, response):
            url = each.request.url
            app = getattr(client._transport_for_url(url), "app", None)
            table = self.services.get(f"{url.scheme}://{url.netloc.decode()}")
            try:
                if table:
                    contract(table).check(each)
                elif isinstance(app, FrontDoor) and each.is_error:
                    contract(app._table).check_error(each)
            except MismatchError as error:
                self._found.append(str(error))

    def report(self) -> None:
        """Raise `MismatchError` with what was found since the last report."""
        found, self._found = dict.fromkeys(self._found), []
        if found:
            raise MismatchError("the service's answers differ from its OpenAPI document:\n" + "\n".join(found))


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let ``watch`` look at the answers to all of httpx's clients until the context ends."""
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def watched(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send(client, request, **options)
        watch.look(client, response)
        return response

    async def watched_async(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send_async(client, request, **options)
        watch.look(client, response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", watched)
        patch.setattr(httpx.AsyncClient, "send", watched_async)
        yield


WATCH = Watch(running.SERVICES)


@pytest.fixture(scope="session", autouse=True)
def watched_answers() -> Iterator[None]:
    """Watch all answers of the session."""
    with watching(WATCH):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test that got an answer which the document does not allow."""
    try:
        return (yield)
    finally:
        WATCH.report()
