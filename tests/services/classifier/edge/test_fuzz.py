"""The real server against its OpenAPI document: schemathesis generates valid and invalid requests."""

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

from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.openapi import document
from services.classifier.settings import Settings
from tests.services.running import Server

pytestmark = pytest.mark.slow

EXAMPLES = 60  # per operation, valid and invalid
DOCUMENT = document(Settings(require_keys="never"), ENDPOINTS)
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
def log_before(exposed: Server) -> int:
    return len(exposed.log.read_text())


def test_the_fuzzed_document_is_the_served_one(exposed: Server):
    assert exposed.get("/docs.json").json() == DOCUMENT


@pytest.mark.parametrize(
    ("operation", "mode"), [pytest.param(*made, id=f"{made[0].label}, {made[1].value}") for made in MADE]
)
def test_generated_requests_get_documented_answers(exposed: Server, log_before: int, operation, mode: GenerationMode):
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
        case.call_and_validate(base_url=exposed.url, checks=CHECKS)

    ask()


def test_no_request_caused_a_5xx(exposed: Server, log_before: int):
    log = exposed.log.read_text()[log_before:]
    assert log.count("endpoint=/predict") >= EXAMPLES
    assert "Traceback" not in log
    assert "status=500" not in log
