"""The Open Inference Protocol, through a real server, checked against the schemas of its specification."""

import base64
import json
import math

import httpx
import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from buckler.error_codes import ErrorCode
from buckler.modality.picture import images
from buckler.trust import audit_chain
from services.classifier.interfaces.oip import OUTPUTS
from tests.services.classifier.test_http import scrape, total
from tests.services.running import IMAGE_SIZE, LABELS, Server, encode

pytestmark = pytest.mark.slow

MODEL = "/v2/models/skin-lesion"


# --- schemas of open_inference_rest.yaml, without additional fields


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Service(Strict):
    name: str
    version: str
    extensions: list[str]


class Tensor(Strict):
    name: str
    datatype: str
    shape: list[int]


class Model(Strict):
    name: str
    versions: list[str] = []
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Output(Tensor):
    parameters: dict[str, str | int | float | bool] = {}
    data: list[JsonValue]


class Response(Strict):
    model_name: str
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, str | int | float | bool] = {}
    outputs: list[Output]


class Error(Strict):
    error: str


# --- client


def infer(server: Server, content: object, path: str = f"{MODEL}/infer", **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {"content-type": "application/json", **headers}
    return httpx.post(server.url + path, content=body, headers=given, timeout=60)


def pixels(number: int = 1) -> np.ndarray:
    return np.random.default_rng(number).uniform(size=(number, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)


def tensor(values: np.ndarray, *, nested: bool = False) -> dict:
    data = values.tolist() if nested else values.ravel().tolist()
    return {"inputs": [{"name": "images", "datatype": "FP32", "shape": list(values.shape), "data": data}]}


def files(*pictures: bytes) -> dict:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"inputs": [{"name": "files", "datatype": "BYTES", "shape": [len(data)], "data": data}]}


def outputs(response: httpx.Response) -> dict[str, np.ndarray]:
    assert response.status_code == 200, response.text
    parsed = Response.model_validate_json(response.content)
    for output in parsed.outputs:
        assert math.prod(output.shape) == len(output.data)
        kind = float if output.datatype == "FP32" else str
        assert all(isinstance(value, kind) for value in output.data)
    return {output.name: np.array(output.data).reshape(output.shape) for output in parsed.outputs}


def error_code(response: httpx.Response) -> str:
    code, _, text = Error.model_validate_json(response.content).error.partition(": ")
    assert response.status_code == ErrorCode(code).status
    assert text
    return code


def test_health_and_metadata_follow_the_specification(server: Server):
    for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/local/ready"):
        response = server.get(path)
        assert (response.status_code, response.json().get("ready", response.json().get("live"))) == (200, True)
    for path in ("/v2", "/v2/"):
        assert Service.model_validate_json(server.get(path).content).name == "buckler"
    for path in (MODEL, f"{MODEL}/versions/local"):
        model = Model.model_validate_json(server.get(path).content)
        assert (model.name, model.versions) == ("skin-lesion", ["local"])
        assert [(each.name, each.shape) for each in model.inputs] == [
            ("images", [-1, IMAGE_SIZE, IMAGE_SIZE, 3]),
            ("files", [-1]),
        ]
        assert [each.name for each in model.outputs] == list(OUTPUTS)


def test_a_tensor_and_the_file_of_its_pixels_are_answered_alike(server: Server):
    picture = encode("PNG", (IMAGE_SIZE, IMAGE_SIZE))
    values = images.load_pixels(picture)[None]
    answer = server.predict(picture).json()
    for request in (files(picture), tensor(values), tensor(values, nested=True)):
        response = infer(server, {**request, "id": "42"})
        found = outputs(response)
        assert found["probabilities"][0] == pytest.approx(
            [answer["probabilities"][label] for label in LABELS], abs=1e-5
        )
        assert found["label"].tolist() == [answer["label"]]
        assert found["decision"].tolist() == [answer["decision"]]
        parameters = response.json()["parameters"]
        assert response.json()["id"] == "42"
        assert parameters["labels"] == ",".join(LABELS)
        assert (parameters["decision"], parameters["reasons"]) == (answer["decision"], ",".join(answer["reasons"]))
        assert parameters["detector_verdict"] == answer["detector"]["verdict"]
        assert parameters["detector_score"] == pytest.approx(answer["detector"]["score"], rel=1e-4)
        assert (parameters["digest"], parameters["verdict"]) == (answer["model"]["digest"], answer["model"]["verdict"])


def test_pictures_are_answered_in_order_and_one_that_needs_review_makes_the_request_need_it(server: Server):
    values = pixels(5)
    response = infer(server, tensor(values), f"{MODEL}/versions/local/infer")
    found = outputs(response)
    alone = [outputs(infer(server, tensor(each[None])))["probabilities"][0] for each in values]
    np.testing.assert_allclose(found["probabilities"], alone, atol=1e-5)
    parameters = response.json()["parameters"]
    assert parameters["decision"] == ("review" if "review" in found["decision"] else "accept")
    assert parameters["detector_score"] == pytest.approx(found["detector_score"].max())
    assert len(set(found["request_id"])) == 5


def test_only_requested_outputs_are_returned(server: Server):
    response = infer(server, {**tensor(pixels()), "outputs": [{"name": "label"}]})
    assert list(outputs(response)) == ["label"]
    assert "decision" in response.json()["parameters"]
    assert "id" not in response.json()


def test_each_picture_is_recorded_and_counted(server: Server):
    lines, before = audit_chain.verify(server.audit).lines, scrape(server)
    infer(server, tensor(pixels(3)))
    after = scrape(server)
    assert audit_chain.verify(server.audit).lines == lines + 3
    assert total(after, "buckler_predictions_total") - total(before, "buckler_predictions_total") == 3
    counted = {"endpoint": "/v2/models/infer", "code": "200"}
    assert total(after, "buckler_requests_total", **counted) - total(before, "buckler_requests_total", **counted) == 1


def test_receipts_are_an_output(server: Server):
    found = outputs(infer(server, tensor(pixels(2)), **{"X-Buckler-Receipt": "ed25519"}))
    assert all(set(json.loads(text)) == {"payload", "payloadType", "signatures"} for text in found["receipt"])
    assert outputs(infer(server, tensor(pixels())))["receipt"].tolist() == [""]


def changed(**changes: object) -> dict:
    request = tensor(pixels())
    request["inputs"][0].update(changes)
    return request


SIDES = [1, IMAGE_SIZE, IMAGE_SIZE, 3]
NUMBERS = math.prod(SIDES)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "body_malformed"),
        (b"{", "body_malformed"),
        (b"[" * 100_000, "body_malformed"),
        ([], "tensor_invalid"),
        ({}, "tensor_invalid"),
        ({"inputs": []}, "tensor_invalid"),
        (changed(name="GEHEIM"), "tensor_invalid"),
        (changed(datatype="UINT8"), "tensor_invalid"),
        (changed(datatype="INT8"), "tensor_invalid"),
        (changed(datatype="BOOL"), "tensor_invalid"),
        (changed(datatype="UINT8", data=[256] * NUMBERS), "tensor_invalid"),
        (changed(datatype="INT32", data=[-1] * NUMBERS), "tensor_invalid"),
        (changed(datatype="FP64", data=[255] * NUMBERS), "tensor_invalid"),
        (changed(data=None), "tensor_invalid"),
        (changed(parameters={"shared_memory_region": "GEHEIM"}, data=None), "tensor_invalid"),
        (changed(parameters={"binary_data_size": NUMBERS * 4}), "tensor_invalid"),
        (changed(parameters={"binary_data_size": NUMBERS * 4}, data=None), "body_malformed"),
        (changed(parameters={"binary_data_size": -1}, data=None), "tensor_invalid"),
        (changed(parameters={"binary_data_size": True}, data=None), "tensor_invalid"),
        (changed(shape=[1, 3]), "tensor_invalid"),
        (changed(shape=[0, *SIDES[1:]]), "tensor_invalid"),
        (changed(shape=[-1, *SIDES[1:]]), "tensor_invalid"),
        (changed(shape=[2, *SIDES[1:]]), "tensor_invalid"),
        (changed(shape=[1, 1, 1, NUMBERS]), "tensor_invalid"),
        (changed(shape=[1, 10**30, 10**30, 3]), "tensor_invalid"),
        (changed(shape=[1, 10**2000, 10**2000, 10**2000]), "tensor_invalid"),  # Python writes no number of 6000 digits
        (changed(data=[10**400] * NUMBERS), "tensor_invalid"),
        (changed(data=[True, *[0.5] * (NUMBERS - 1)]), "tensor_invalid"),
        (changed(shape=[10**6, *SIDES[1:]]), "too_many_pictures"),
        (changed(data=[0.5] * (NUMBERS - 1)), "tensor_invalid"),
        (changed(data=[2.0] * NUMBERS), "tensor_invalid"),
        (changed(data=[-0.1] * NUMBERS), "tensor_invalid"),
        (changed(data=["0.5"] * NUMBERS), "tensor_invalid"),
        (changed(data=[True] * NUMBERS), "tensor_invalid"),
        (changed(data=[None] * NUMBERS), "tensor_invalid"),
        (changed(data=[[0.5], [0.5, 0.5]]), "tensor_invalid"),
        (changed(data=[float("nan")] * NUMBERS), "tensor_invalid"),
        ({**tensor(pixels()), "outputs": [{"name": "GEHEIM"}]}, "tensor_invalid"),
        (files(*[b"x"] * 9), "too_many_pictures"),
        ({"inputs": [{"name": "files", "datatype": "BYTES", "shape": [1], "data": ["GEHEIM!"]}]}, "tensor_invalid"),
        ({"inputs": [{"name": "files", "datatype": "BYTES", "shape": [1], "data": [7]}]}, "tensor_invalid"),
        ({"inputs": [{"name": "files", "datatype": "BYTES", "shape": [2], "data": ["eA=="]}]}, "tensor_invalid"),
        (files(b""), "image_empty"),
        (files(b"no picture"), "image_unsupported"),
    ],
)
def test_an_invalid_request_is_refused_in_the_protocols_format_and_not_quoted(server: Server, content, code: str):
    response = infer(server, content)
    assert error_code(response) == code
    assert "GEHEIM" not in response.text


def test_one_bad_picture_refuses_the_request_and_the_error_has_its_number(server: Server, picture: bytes):
    response = infer(server, files(picture, b"no picture"))
    assert error_code(response) == "image_unsupported"
    assert "picture 2: " in response.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/other", f"{MODEL}/versions/7", "/v2/models/other/ready"])
def test_another_model_or_version_is_unknown(server: Server, path: str):
    assert error_code(server.get(path)) == "model_unknown"
    if not path.endswith("ready"):
        assert error_code(infer(server, tensor(pixels()), f"{path}/infer")) == "model_unknown"


@pytest.mark.parametrize(
    "path", ["/v2/nothing", "/v2/models", f"{MODEL}/explain", "/v2/models/a/b/infer", f"{MODEL}/versions"]
)
def test_other_paths_are_not_found_in_the_protocols_format(server: Server, path: str):
    assert error_code(server.get(path)) == "not_found"


def test_a_foreign_method_or_content_type_is_refused(server: Server):
    assert error_code(server.get(f"{MODEL}/infer")) == "method_not_allowed"
    assert error_code(infer(server, b"x", **{"content-type": "text/plain"})) == "media_type_unsupported"


def test_no_model_name_from_a_client_becomes_a_label(server: Server):
    server.get("/v2/models/Erika-Mustermann")
    infer(server, tensor(pixels()), "/v2/models/Erika-Mustermann/versions/GEHEIM/infer")
    assert not any(secret in server.get("/metrics").text + server.log.read_text() for secret in ("Erika", "GEHEIM"))


def test_the_openapi_document_has_every_path_and_matching_schemas(server: Server):
    document = server.get("/docs.json").json()
    paths = [path for path in document["paths"] if path.startswith("/v2")]
    assert len(paths) == 10
    named = {"{name}": "skin-lesion", "{version}": "local"}
    for path in paths:
        for placeholder, value in named.items():
            path = path.replace(placeholder, value)
        response = infer(server, tensor(pixels()), path) if path.endswith("infer") else server.get(path)
        assert response.status_code == 200, path
    assert set(Response.model_fields) - {"id"} <= set(document["components"]["schemas"]["InferResponse"]["properties"])
    TypeAdapter(dict).validate_python(document["components"]["schemas"]["InferRequest"])
