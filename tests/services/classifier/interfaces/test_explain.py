"""The map of influential regions, through a real server."""

import io
from types import SimpleNamespace
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from PIL import Image

from buckler.trust import audit_chain
from services.classifier.contract import RefusalError
from services.classifier.interfaces.explain import ExplainRequest, requested_label
from tests.services.classifier.test_http import error_code
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


def test_each_label_has_its_own_overlay(server: Server, picture: bytes):
    shown = {}
    for label in LABELS:
        response = explain(server, picture, f"?label={label}")
        assert response.headers["x-buckler-label"] == label
        shown[label] = np.asarray(Image.open(io.BytesIO(response.content))).astype(int)
    assert np.abs(shown["benign"] - shown["malignant"]).max() > 10


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


def test_the_header_states_a_label_in_any_script():
    answer, relevance = SimpleNamespace(label="黒色腫", decision="accept"), np.zeros((2, 2), np.float32)
    predictor = SimpleNamespace(
        labels=("黒色腫", "母斑"), image_size=32, predict_and_explain=lambda pixels, label: (answer, relevance)
    )
    request = ExplainRequest(encode("PNG", (40, 40)), None)
    response = request.answer(lambda picture, request_id: answer, SimpleNamespace(predictor=predictor), "id")
    assert unquote(response.headers["x-buckler-label"]) == "黒色腫"


def test_the_query_names_at_most_one_label():
    assert [requested_label(query) for query in (b"", b"label=benign", b"other=1")] == [None, "benign", None]
    with pytest.raises(RefusalError):
        requested_label(b"label=a&label=b")
