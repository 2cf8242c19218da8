"""A row of the table and a function make an endpoint; and what holds for all rows."""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from buckler.error_codes import ErrorCode
from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from buckler.trust import audit_chain
from drills.service import metric_sum
from services.classifier.contract import ERROR_FORM
from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.fhir import FHIR_JSON
from services.classifier.interfaces.openapi import document
from services.classifier.negotiation import NotAcceptableError, choose
from services.classifier.routing import OTHER, Endpoint, Table
from services.classifier.settings import MEBIBYTE, Settings
from tests.services.classifier.size_endpoint import SIZE, SIZE_LIMIT, TABLE
from tests.services.door import bearer
from tests.services.running import TLS, Server, bentoml_serving
from tests.waiting import wait_for

SERVICE = "tests.services.classifier.size_service:Classifier"
BURST = 15


# --- a new endpoint


@dataclass(frozen=True)
class Extended:
    """A running service whose table has two more rows, and its clients."""

    server: Server
    keys: dict[str, tuple[str, str]]  # id and secret by name

    def ask(self, method: str, key: str | None = "ward", path: str = "/size", **content: object) -> httpx.Response:
        headers = bearer(self.keys[key][1]) if key else {}
        headers |= content.pop("headers", {})
        return httpx.request(method, self.server.url + path, headers=headers, timeout=60, verify=TLS, **content)

    def size(self, *pictures: bytes, **more: object) -> httpx.Response:
        return self.ask("POST", files=[("image", ("Erika.jpg", each)) for each in pictures], **more)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[Extended]:
    directory = tmp_path_factory.mktemp("extended")
    ring = directory / "api.json"
    roles = {"ward": Role.PREDICT, "busy ward": Role.PREDICT, "prometheus": Role.OPERATE}
    made = {name: api_keys.create(ring, role=role, name=name.replace(" ", "-")) for name, role in roles.items()}
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(ring),
        "BUCKLER_KEY_REQUESTS_PER_SECOND": "0.01",
        "BUCKLER_KEY_BURST": str(BURST),
        "BUCKLER_BODY_LIMIT_BYTES": str(MEBIBYTE),
    }
    with bentoml_serving(directory, keys, SERVICE, table=TABLE, **settings) as server:
        yield Extended(server, {name: (key.id, secret) for name, (key, secret) in made.items()})


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.slow
def test_a_new_row_is_routed_by_path_and_method(extended: Extended, picture: bytes):
    response = extended.size(picture)
    assert (response.status_code, response.json()["width"], response.json()["height"]) == (200, 160, 120)
    assert extended.ask("GET", key=None).json() == {"bytes": MEBIBYTE}
    assert extended.ask("HEAD", key=None).content == b""
    refused = extended.ask("PUT")
    assert code(refused) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST, GET, HEAD, OPTIONS"
    assert extended.ask("GET", key=None, path="/size/").json() == {"bytes": MEBIBYTE}
    options = extended.ask("OPTIONS", key=None)
    assert (options.status_code, options.headers["allow"]) == (204, "POST, GET, HEAD, OPTIONS")


@pytest.mark.slow
def test_a_new_row_states_who_may_ask(extended: Extended, picture: bytes):
    assert code(extended.size(picture, key=None)) == (401, "key_missing")
    assert code(extended.size(picture, key="prometheus")) == (403, "role_forbidden")


@pytest.mark.slow
def test_a_new_row_is_limited_in_pictures_bytes_and_rate(extended: Extended, picture: bytes):
    assert code(extended.size(picture, picture)) == (400, "field_repeated")
    assert code(extended.size(bytes(MEBIBYTE + 1))) == (413, "body_too_large")
    assert code(extended.ask("POST", content=b"{}")) == (415, "media_type_unsupported")
    many = [extended.ask("POST", "busy ward", content=b"{}") for _ in range(BURST + 1)]
    assert [each.status_code for each in many] == [415] * BURST + [429]
    assert code(many[-1]) == (429, "rate_limited")
    assert extended.ask("GET", key=None).status_code == 200


@pytest.mark.slow
def test_a_new_row_is_counted_and_logged_under_its_label(extended: Extended, picture: bytes):
    def metrics() -> str:
        return extended.ask("GET", "prometheus", "/metrics").text

    assert 'buckler_requests_total{code="504",endpoint="/size"} 0.0' in metrics()  # from the start
    response = extended.size(picture)
    line = f"request={response.headers['x-request-id']} endpoint=/size key={extended.keys['ward'][0]} status=200"
    wait_for(lambda: line in extended.server.log.read_text())
    assert metric_sum(metrics(), "buckler_requests_total", {"endpoint": "/size", "code": "200"}) >= 1
    assert metric_sum(metrics(), "buckler_request_seconds_count", {"endpoint": "/size"}) >= 1


def test_a_new_row_brings_its_label():
    assert TABLE.labels == (*ENDPOINTS.labels[:-1], "/size", OTHER)
    assert TABLE.picture_labels == (*ENDPOINTS.picture_labels, "/size")


@pytest.mark.slow
def test_a_new_row_is_in_the_openapi_document(extended: Extended):
    served = extended.ask("GET", None, "/docs.json").json()
    operations = served["paths"]["/size"]
    assert set(operations) == {"post", "get"}
    assert operations["post"]["security"] == [{"key": []}]
    assert "security" not in operations["get"]
    assert operations["post"]["description"] == "The request has at most 1 MiB."
    assert list(operations["post"]["requestBody"]["content"]) == [body.media_type for body in SIZE.takes]
    assert operations["post"]["responses"]["200"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Size"}}
    }
    assert set(served["components"]["schemas"]["Size"]["required"]) == {"width", "height", "decision"}
    documented = {
        code
        for answer in operations["post"]["responses"].values()
        for code in answer["content"]["application/json"].get("examples", {})
    }
    assert documented == set(SIZE.error_codes)
    assert {"image_unreadable", "rate_limited", "key_missing", "audit_unavailable"} <= documented
    assert {path for path in served["paths"] if path != "/size"} == set(document(Settings(), ENDPOINTS)["paths"])


@pytest.mark.slow
def test_answers_of_a_new_row_are_in_the_audit_log(extended: Extended, picture: bytes):
    before = audit_chain.verify(extended.server.audit).lines if extended.server.audit.exists() else 0
    answered = extended.size(picture)
    extended.size(b"no picture")
    assert code(extended.size(picture, headers={"X-Buckler-Receipt": "rsa"})) == (400, "receipt_unsupported")
    (line,) = map(json.loads, extended.server.audit.read_text().splitlines()[before:])
    assert line["answer"]["request_id"] == answered.headers["x-request-id"]
    assert line["client"] == extended.keys["ward"][0]


# --- all rows

ROWS = [pytest.param(row, id=row.name) for row in (*ENDPOINTS, SIZE_LIMIT)]


def test_names_and_operation_ids_are_unique():
    assert max(Counter(row.name for row in ENDPOINTS).values()) == 1
    operations = document(Settings(), ENDPOINTS)["paths"].values()
    assert max(Counter(each["operationId"] for methods in operations for each in methods.values()).values()) == 1


def test_no_path_is_in_two_rows_with_the_same_method():
    served = Counter((path, method) for row in ENDPOINTS for path in row.paths for method in row.methods)
    assert max(served.values()) == 1


def test_labels_are_without_parameters_and_do_not_repeat():
    assert len(set(ENDPOINTS.labels)) == len(ENDPOINTS.labels)
    assert not any("{" in label for label in ENDPOINTS.labels)
    assert ENDPOINTS.picture_labels == ("/predict", "/explain", "/v2/models/infer")


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_found_by_each_of_its_paths(row: Endpoint):
    for path in row.paths:
        rows, values = TABLE.find(re.sub("{.*?}", "skin", path))
        assert row in rows
        assert values == dict.fromkeys(re.findall(r"{(\w+)", path), "skin")


@pytest.mark.parametrize("row", ROWS)
def test_a_slash_at_the_end_of_a_path_finds_the_same_row(row: Endpoint):
    for path in {*row.paths} - {"/", "/docs"}:  # /docs/ leads to /docs
        path = re.sub("{.*?}", "skin", path)
        assert TABLE.find(f"{path}/") == TABLE.find(path) or path.endswith("/") or "assets" in path


@pytest.mark.parametrize("row", ROWS)
def test_a_handler_takes_the_call_and_says_what_it_does(row: Endpoint):
    assert len(inspect.signature(row.handler).parameters) == 1
    assert inspect.getdoc(row.handler)


@pytest.mark.parametrize("row", ROWS)
def test_a_documented_row_has_a_summary_and_describes_what_it_takes_and_gives(row: Endpoint):
    assert row.gives
    assert bool(row.takes) == (row.method == "POST")
    assert bool(row.summary) == row.documented
    if row.documented:
        assert not row.summary.endswith(".")


@pytest.mark.parametrize("row", ROWS)
def test_errors_are_in_the_order_of_the_list(row: Endpoint):
    order = list(ErrorCode)
    places = [order.index(code) for code in row.error_codes]
    assert places == sorted(set(places))
    assert ErrorCode.INTERNAL_ERROR in row.error_codes
    assert (ErrorCode.KEY_MISSING in row.error_codes) == (row.role is not None)
    assert (ErrorCode.IMAGE_UNREADABLE in row.error_codes) == bool(row.pictures)
    assert (ErrorCode.RATE_LIMITED in row.error_codes) == row.limited


@pytest.mark.parametrize(
    ("name", "accept", "media_type"),
    [
        ("predict", "", "application/json"),
        ("predict", "*/*", "application/json"),
        ("predict", "text/html", "application/json"),
        ("predict", "application/fhir+json", "application/fhir+json"),
        ("predict", "Application/FHIR+JSON; q=0.9", "application/fhir+json"),
        ("predict", "application/json, application/fhir+json", "application/fhir+json"),
        ("predict", "application/json, application/fhir+json;q=0.5", "application/json"),
        ("predict", "application/json;q=0.2, application/fhir+json;q=0.5", "application/fhir+json"),
        ("predict", "application/fhir+json;q=0", "application/json"),
        ("predict", "application/fhir+json;q=high", "application/json"),
        ("predict", "application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
        ("predict", 'application/fhir+json;fhirversion="4.0.1";charset=UTF-8;q=0.3', "application/fhir+json"),
        (
            "predict",
            "application/fhir+json;fhirVersion=5.0, application/fhir+json;fhirVersion=4.0;q=0.1",
            "application/fhir+json",
        ),
        ("predict", "application/json+fhir", "application/fhir+json"),
        ("predict", "application/fhir+xml;q=1.0, application/fhir+json;q=0.9", "application/fhir+json"),
        ("predict", "application/fhir+xml, */*;q=0.1", "application/fhir+json"),
        ("predict", "application/fhir+xml, application/json;q=0.5", "application/fhir+json"),
        ("predict", "application/fhir+json;fhirVersion=5.0, application/*", "application/fhir+json"),
        ("predict", "application/xml+fhir;q=0, application/json", "application/json"),
        ("predict", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("predict", "application/xml, application/json;q=0.1", "application/json"),
        ("explain", "", "image/png"),
        ("explain", "application/json", "application/json"),
        ("modelCard", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("modelCard", "*/*", "application/json"),
        ("modelCardPage", "application/json", "text/html"),
    ],
)
def test_the_format_of_an_answer_follows_the_accept_header(name: str, accept: str, media_type: str):
    (row,) = (row for row in ENDPOINTS if row.name == name)
    assert choose(row.gives, accept).media_type == media_type


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/fhir+xml", FHIR_JSON),
        ("application/xml+fhir", FHIR_JSON),
        ("application/fhir+turtle, text/turtle;q=0.5", FHIR_JSON),
        ("application/fhir+xml, text/xml;q=0.9", FHIR_JSON),
        ("application/fhir+json;fhirVersion=3.0", FHIR_JSON),
        ("application/fhir+json;fhirVersion=4.3", FHIR_JSON),
        ("application/fhir+json;fhirVersion=40", FHIR_JSON),
        ("application/fhir+xml;fhirVersion=4.0, application/fhir+json;q=0", FHIR_JSON),
        ("text/xml", "application/json"),
        ("application/xml;q=0.9, text/xml", "application/json"),
    ],
)
def test_a_client_of_a_standard_that_is_not_served_is_refused_in_a_form_that_it_can_read(accept: str, form: str):
    (row,) = (row for row in ENDPOINTS if row.name == "predict")
    with pytest.raises(NotAcceptableError, match="application/fhir") as caught:
        choose(row.gives, accept)
    assert (caught.value.code, caught.value.form.media_type) == (ErrorCode.NOT_ACCEPTABLE, form)


@pytest.mark.parametrize("path", ["", "nothing", "/nothing", "/predict//", "//", "/v2/models/", "/v2/models/a/b/infer"])
def test_no_row_is_found_for_an_unknown_path(path: str):
    assert ENDPOINTS.find(path) == ([], {})


def test_errors_about_unknown_paths_have_the_form_of_their_neighbours():
    oip = next(row for row in ENDPOINTS if row.name == "oipServer").gives[0].error_form
    assert {ENDPOINTS.error_form(path) for path in ("/v2/nothing", "/v2/models")} == {oip}
    assert {ENDPOINTS.error_form(path) for path in ("/nothing", "/v21", "/predict/x", "*")} == {ERROR_FORM}


def test_a_table_of_no_rows_finds_nothing():
    assert Table(()).find("/predict") == ([], {})
    assert Table(()).labels == (OTHER,)
