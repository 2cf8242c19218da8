"""The real server against its OpenAPI document: schemathesis generates valid and invalid requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from services.classifier.interfaces.openapi import document
from services.classifier.settings import Settings
from tests.services.running import Server, serving

pytestmark = pytest.mark.slow

EXAMPLES = 150  # per operation, valid and invalid
DOCUMENT = document(Settings(require_keys="never"))
OPERATIONS = [result.ok() for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
MADE = [(operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
MADE += [
    (operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation.body
]  # only they have invalid ones
# Random bytes are refused as documented; other tests send valid pictures.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[Server]:
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_AUDIT_FSYNC": "interval"}
    with serving(tmp_path_factory.mktemp("fuzzed"), keys, **settings) as server:
        yield server


def test_the_fuzzed_document_is_the_served_one(fuzzed: Server):
    assert fuzzed.get("/docs.json").json() == DOCUMENT


@pytest.mark.parametrize(
    ("operation", "mode"), [pytest.param(*made, id=f"{made[0].label}, {made[1].value}") for made in MADE]
)
def test_generated_requests_get_documented_answers(fuzzed: Server, operation, mode: GenerationMode):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        case.call_and_validate(base_url=fuzzed.url, checks=CHECKS)

    ask()


def test_no_request_caused_a_5xx(fuzzed: Server):
    log = fuzzed.log.read_text()
    assert log.count("endpoint=/predict") >= EXAMPLES
    assert "Traceback" not in log
    assert "status=500" not in log
