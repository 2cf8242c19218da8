"""The OpenAPI document is valid, complete and readable; `openapi_check` compares the service's answers with it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from buckler.error_codes import ErrorCode
from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.openapi import document
from services.classifier.settings import Settings

DOCUMENT = document(Settings(require_keys="never"), ENDPOINTS)
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    pytest.param(operation, id=operation["operationId"])
    for methods in DOCUMENT["paths"].values()
    for operation in methods.values()
]


def descriptions(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for each in part:
            yield from descriptions(each)
    elif isinstance(part, dict):
        if isinstance(part.get("description"), str):
            yield part["description"]
        for each in part.values():
            yield from descriptions(each)


def test_the_document_and_its_schemas_are_valid():
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_every_schema_is_used_and_every_reference_has_its_schema():
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(DOCUMENT))) == set(SCHEMAS)


def test_descriptions_are_written_for_clients():
    texts = list(descriptions(DOCUMENT))
    assert "The answer to one picture." in texts
    assert not [text for text in texts if "``" in text or "Attributes:" in text or "{" in text]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_error_is_explained_once_with_an_example(operation: dict[str, Any]):
    for status, response in operation["responses"].items():
        if status == "200":
            continue
        explained = re.findall("^- `(.*?)`: ", response["description"], re.M)
        assert {ErrorCode(code).status.value for code in explained} == {int(status)}
        assert explained == sorted(set(explained), key=list(ErrorCode).index)
        for content in response["content"].values():
            assert list(content["examples"]) == explained
            assert all(code in json.dumps(example["value"]) for code, example in content["examples"].items())


def test_only_rows_with_a_role_need_a_key_where_keys_are_required():
    locked = document(Settings(require_keys="always"), ENDPOINTS)["paths"]
    for row in ENDPOINTS:
        for path in row.paths if row.documented else ():
            method = row.method.lower()
            assert ("security" in locked[path][method]) == (row.role is not None)
            assert "security" not in DOCUMENT["paths"][path][method]


def test_limits_are_those_of_the_settings():
    narrow = document(Settings(batch_limit=3, body_limit_bytes=2**20), ENDPOINTS)["paths"]["/predict"]["post"]
    assert "one to 3 pictures" in narrow["description"]
    assert "at most 1 MiB" in narrow["description"]
    form = narrow["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["maxItems"] == 3
