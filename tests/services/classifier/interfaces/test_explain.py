"""The map of influential regions, through a real server."""

import asyncio
import base64
import io
import json
from types import SimpleNamespace
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import QueryParams
from starlette.responses import Response

from buckler.trust import audit_chain
from buckler.trust.keys import load_public_keys
from buckler.trust.receipt import PUBLIC_KEY_FILE, verify
from services.classifier.contract import Answer, DetectorAnswer, ModelAnswer, RefusalError
from services.classifier.interfaces.explain import GIVES, Explanation, requested_label
from services.classifier.interfaces.explain import explain as answer_explain
from services.classifier.requests import Answered, Call, HeatMap, PictureRequest
from services.classifier.routing import Format
from services.classifier.threads import Threads
from tests.forms import PICTURE
from tests.services.classifier.test_http import error_code, scrape, total
from tests.services.running import LABELS, Server, encode
from tests.unit.modality.picture.dicom_files import dicom

pytestmark = pytest.mark.slow


def explain(server: Server, picture: bytes, query: str = "", **headers: str) -> httpx.Response:
    files = {"image": ("Erika.jpg", picture)}
    return httpx.post(f"{server.url}/explain{query}", files=files, headers=headers, timeout=60)


def test_the_overlay_is_the_picture_with_the_map_of_the_predicted_label(server: Server, picture: bytes):
    answer, response = server.predict(picture).json(), explain(server, picture)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.headers["x-buckler-label"] == answer["label"]
    assert response.headers["x-buckler-decision"] == answer["decision"]
    assert response.headers["cache-control"] == "no-store"
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.size, image.mode) == ((160, 120), "RGB")


def test_between_two_labels_the_same_regions_decide(server: Server, picture: bytes):
    shown = {}
    for label in LABELS:
        response = explain(server, picture, f"?label={label}")
        assert (response.headers["x-buckler-label"], response.headers["x-buckler-heat-map"]) == (label, "shown")
        shown[label] = np.asarray(Image.open(io.BytesIO(response.content))).astype(int)
    np.testing.assert_array_equal(shown["benign"], shown["malignant"])
    assert np.abs(shown["benign"] - np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))).max() > 10


def test_an_explanation_is_recorded_in_the_audit_log_like_any_answer(server: Server, picture: bytes):
    lines = audit_chain.verify(server.audit).lines
    explain(server, picture)
    assert audit_chain.verify(server.audit).lines == lines + 1


def test_a_dicom_file_can_be_explained(server: Server):
    pixels = np.asarray(Image.open(io.BytesIO(encode("PNG", (50, 40)))))
    headers = {"content-type": "application/dicom"}
    response = httpx.post(f"{server.url}/explain", content=dicom(pixels, "RGB"), headers=headers, timeout=60)
    assert Image.open(io.BytesIO(response.content)).size == (50, 40)


@pytest.mark.parametrize("query", ["?label=melanoma", "?label=", "?label=benign&label=malignant", "?label=%FF"])
def test_an_unknown_label_is_refused_and_not_quoted(server: Server, picture: bytes, query: str):
    response = explain(server, picture, query)
    assert error_code(response) == "label_unknown"
    assert "melanoma" not in response.text


def test_an_invalid_request_is_refused_with_its_code(server: Server, picture: bytes):
    assert error_code(explain(server, b"no picture")) == "image_unsupported"
    assert error_code(explain(server, picture, **{"X-Buckler-Receipt": "ed25519"})) == "receipt_unsupported"
    files = [("image", ("a", picture)), ("image", ("b", picture))]
    assert error_code(httpx.post(f"{server.url}/explain", files=files, timeout=60)) == "field_repeated"


GREY = Image.new("RGB", (40, 40), "grey")
ANSWER = Answer(
    request_id="id",
    label="黒色腫",
    probabilities={"黒色腫": 0.75, "母斑": 0.25},
    decision="accept",
    reasons=[],
    detector=DetectorAnswer(score=0.0, threshold=1.0, verdict="clean"),
    model=ModelAnswer(name="model", version="1", digest="sha256:0", verdict="id"),
)


def answer_with(heat_map: HeatMap, form: Format) -> Response:
    """Return the response to a picture whose answer comes with ``heat_map``."""
    served = SimpleNamespace(predictor=SimpleNamespace(labels=("黒色腫", "母斑")), withdrawn=False)

    async def answered(request: PictureRequest, number: int) -> Answered:
        return Answered(ANSWER, heat_map)

    pipeline = SimpleNamespace(live=served, answer=answered, drawing=Threads("Test"))
    return asyncio.run(answer_explain(Call(id="id", format=form, pipeline=pipeline, files=(b"",))))


def test_the_header_states_a_label_in_any_script():
    response = answer_with(HeatMap("黒色腫", GREY, np.ones((2, 2), np.float32), PICTURE), GIVES[0])
    assert unquote(response.headers["x-buckler-label"]) == "黒色腫"


@pytest.mark.parametrize(
    ("relevance", "reliable", "state"),
    [(1, True, "shown"), (0, True, "flat"), (1, False, "unreliable"), (0, False, "unreliable")],
)
def test_a_heat_map_that_is_not_shown_says_why(relevance: float, reliable: bool, state: str):
    heat_map = HeatMap("黒色腫", GREY, np.full((2, 2), relevance, np.float32), PICTURE, reliable)
    png, document = (answer_with(heat_map, form) for form in GIVES)
    marked = np.any(np.asarray(Image.open(io.BytesIO(png.body))) != np.asarray(GREY))
    assert (png.headers["x-buckler-heat-map"], marked) == (state, state == "shown")
    found = Explanation.model_validate_json(document.body)
    assert (found.heat_map, found.overlay is not None) == (state, state == "shown")


def test_the_query_names_at_most_one_label():
    assert [requested_label(QueryParams(query)) for query in ("", "label=benign", "other=1")] == [None, "benign", None]
    with pytest.raises(RefusalError):
        requested_label(QueryParams("label=a&label=b"))


def test_as_json_the_answer_comes_with_the_picture_and_the_overlay(server: Server, picture: bytes):
    lines = audit_chain.verify(server.audit).lines
    png = explain(server, picture)
    response = explain(server, picture, accept="application/json")
    found = Explanation.model_validate_json(response.content)
    assert response.headers["content-type"] == "application/json"
    assert base64.b64decode(found.overlay) == png.content
    shown = Image.open(io.BytesIO(base64.b64decode(found.picture)))
    assert (shown.size, shown.mode) == ((160, 120), "RGB")
    assert found.label == found.answer.label
    assert audit_chain.verify(server.audit).lines == lines + 2
    assert json.loads(server.audit.read_text().splitlines()[-1])["answer"] == found.answer.model_dump(mode="json")


def test_an_explanation_costs_one_forward_pass(server: Server, picture: bytes):
    before = scrape(server)
    explain(server, picture, accept="application/json")
    after = scrape(server)
    for name in ("buckler_inference_seconds_count", "buckler_predictions_total"):
        assert total(after, name) - total(before, name) == 1


def test_as_json_the_answer_carries_a_receipt(server: Server, picture: bytes, keys, tmp_path):
    headers = {"accept": "application/json", "X-Buckler-Receipt": "ed25519"}
    answer = explain(server, picture, **headers).json()["answer"]
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "picture.jpg").write_bytes(picture)
    receipt = verify(tmp_path / "answer.json", tmp_path / "picture.jpg", load_public_keys(keys / PUBLIC_KEY_FILE))
    assert receipt.answer["request_id"] == answer["request_id"]
