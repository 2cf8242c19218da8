"""DICOM requests and FHIR R4 answers, through a real server."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.operationoutcome import OperationOutcome
from PIL import Image
from pydantic import ValidationError

from buckler.client import Client
from buckler.error_codes import ErrorCode
from buckler.modality.picture.images import encode_png
from buckler.trust import audit_chain
from buckler.trust.keys import load_public_keys
from buckler.trust.receipt import PUBLIC_KEY_FILE, verify
from services.classifier.contract import RefusalError
from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.fhir import FHIR_JSON, outcome
from services.classifier.negotiation import choose
from tests.services.running import LABELS, Server, encode
from tests.unit.modality.picture.dicom_files import dicom, jpeg_dicom

pytestmark = pytest.mark.slow

DICOM = {"content-type": "application/dicom"}
FHIR = {"accept": "application/fhir+json"}
SECRETS = ("Mustermann", "Erika", "GEHEIM")


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encode("PNG", (41, 30)))))


def post(server: Server, content: bytes, *, frame: int | None = None, **headers: str) -> httpx.Response:
    query = {} if frame is None else {"frame": frame}
    return httpx.post(f"{server.url}/predict", content=content, headers={**DICOM, **headers}, params=query, timeout=60)


def encode_array(pixels: np.ndarray) -> bytes:
    return encode_png(Image.fromarray(pixels))


def without_id(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return {name: value for name, value in response.json().items() if name != "request_id"}


def test_a_dicom_file_in_a_form_or_as_the_body_is_answered_like_a_png_of_its_picture(server: Server, colours):
    as_png = without_id(server.predict(encode("PNG", (41, 30))))
    as_form = without_id(server.predict(dicom(colours, "RGB"), "Erika-Mustermann.dcm"))
    as_body = without_id(post(server, dicom(colours, "RGB")))
    for each in (as_form, as_body):
        assert each["probabilities"] == pytest.approx(as_png["probabilities"], abs=1e-5)
    assert without_id(post(server, jpeg_dicom(Image.fromarray(colours))))["label"] in LABELS


def test_one_frame_of_a_file_is_answered_where_the_request_chooses_it(server: Server, colours, keys, tmp_path):
    frames = [colours, 255 - colours, colours // 2]
    content = dicom(np.stack(frames).tobytes(), "RGB", Rows=30, Columns=41, NumberOfFrames=3)
    for number, frame in enumerate(frames, 1):
        alone = without_id(server.predict(encode_array(frame)))
        chosen = post(server, content, **{"x-buckler-receipt": "ed25519"}, frame=number)
        answer = without_id(chosen)
        assert answer["frame"] == number
        assert answer["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)
        line = json.loads(server.audit.read_text().splitlines()[-1])
        assert line["answer"]["frame"] == number
        assert f"Frame {number}: " in post(server, content, **FHIR, frame=number).json()["conclusion"]
    path = tmp_path / "frames.dcm"
    path.write_bytes(content)
    (tmp_path / "answer.json").write_bytes(chosen.content)
    key = load_public_keys(keys / PUBLIC_KEY_FILE)
    assert verify(tmp_path / "answer.json", path, key).answer["frame"] == 3
    with Client(server.url) as client:
        assert client.predict(path, frame=2).frame == 2
        assert client.explain(path, frame=2).answer.frame == 2
    assert post(server, content, frame=4).json()["error"]["code"] == "image_unsupported"
    assert "frame" not in without_id(server.predict(encode("PNG", (41, 30))))


@pytest.mark.parametrize(
    "query", ["frame=0", "frame=-1", "frame=x", "frame=", "frame=1&frame=2", "frame=1.0", "frame=9999999"]
)
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_frame_is_one_whole_number_from_1(server: Server, colours, path, query):
    response = httpx.post(f"{server.url}{path}?{query}", content=dicom(colours, "RGB"), headers=DICOM, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "frame_unknown"


def test_a_frame_of_several_pictures_is_refused(server: Server, colours):
    files = [("image", ("1", dicom(colours, "RGB")))] * 2
    response = httpx.post(f"{server.url}/predict?frame=1", files=files, timeout=60)
    assert response.json()["error"]["code"] == "frame_unknown"


def test_a_picture_of_another_format_has_only_frame_1(server: Server, picture: bytes):
    found = {
        number: httpx.post(f"{server.url}/predict?frame={number}", files={"image": picture}, timeout=60)
        for number in (1, 2)
    }
    assert found[1].json()["frame"] == 1
    assert "expected a DICOM file with a frame 2, got one picture (JPEG)" in found[2].json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda colours: dicom(colours, "RGB")[:700], "image_unreadable"),
        (lambda colours: dicom(colours, "RGB", NumberOfFrames=3), "image_unsupported"),
        (lambda colours: dicom(colours, "RGB", Rows=30000, Columns=30000), "image_too_large"),
        (lambda colours: b"", "image_empty"),
        (lambda colours: b"no picture", "image_unsupported"),
    ],
)
def test_a_bad_dicom_file_is_refused_with_its_code_and_none_of_its_tags(server: Server, colours, content, code):
    response = post(server, content(colours))
    assert response.json()["error"]["code"] == code
    assert not any(secret in response.text for secret in SECRETS)


def test_log_audit_log_and_metrics_name_no_patient(server: Server, colours):
    for content in (dicom(colours, "RGB"), dicom(colours, "RGB")[:700], dicom(colours, "RGB", NumberOfFrames=2)):
        post(server, content)
        server.predict(content, "Erika-Mustermann.dcm")
        post(server, content, **FHIR)
    written = server.log.read_text() + server.audit.read_text() + server.get("/metrics").text
    assert not any(secret in written for secret in (*SECRETS, "Traceback"))


def test_a_report_is_valid_fhir_and_agrees_with_the_answer(server: Server, colours):
    answer = server.predict(dicom(colours, "RGB")).json()
    response = post(server, dicom(colours, "RGB"), **FHIR)
    assert response.headers["content-type"] == "application/fhir+json"
    report = DiagnosticReport.model_validate_json(response.content)
    assert (report.status, report.id) == ("preliminary", response.headers["x-request-id"])
    assert report.subject is None
    device, label, decision, detector = report.contained
    assert [each.reference for each in report.result] == ["#label", "#decision", "#detector"]
    assert {each.device.reference for each in (label, decision, detector)} == {f"#{device.id}"}
    assert label.valueCodeableConcept.text == answer["label"]
    shares = {part.code.text: float(part.valueQuantity.value) for part in label.component}
    assert shares == pytest.approx(answer["probabilities"], abs=1e-5)
    assert decision.valueCodeableConcept.text == answer["decision"]
    reasons = [part.valueCodeableConcept.text for part in decision.component or []]
    assert reasons == answer["reasons"]
    assert float(detector.valueQuantity.value) == pytest.approx(answer["detector"]["score"], rel=1e-4)
    assert float(detector.referenceRange[0].high.value) == answer["detector"]["threshold"]
    assert detector.interpretation[0].text == answer["detector"]["verdict"]
    assert device.identifier[0].value == answer["model"]["digest"]
    assert device.extension[0].valueString == answer["model"]["verdict"]
    assert not any(secret in response.text for secret in SECRETS)


def test_the_library_rejects_an_invalid_report(server: Server, picture: bytes):
    report = server.predict(picture, **FHIR).json()
    for name, value in (("status", None), ("code", "melanoma"), ("issued", "yesterday"), ("verdict", "ours")):
        with pytest.raises(ValidationError):
            DiagnosticReport.model_validate({**report, name: value})


def test_several_pictures_are_a_bundle_with_an_outcome_for_a_bad_one(server: Server, picture: bytes, colours):
    files = [("image", ("a", each)) for each in (picture, b"no picture", dicom(colours, "RGB"))]
    response = httpx.post(f"{server.url}/predict", files=files, headers=FHIR, timeout=60)
    bundle = Bundle.model_validate_json(response.content)
    first, second, third = (entry.resource for entry in bundle.entry)
    assert [first.id, third.id] == [f"{response.headers['x-request-id']}-{number}" for number in (1, 3)]
    assert isinstance(second, OperationOutcome)
    assert second.issue[0].details.text == "image_unsupported"


def test_a_report_is_recorded_in_the_audit_log_and_can_carry_a_receipt(server: Server, picture: bytes, keys, tmp_path):
    lines = audit_chain.verify(server.audit).lines
    report = server.predict(picture, **FHIR, **{"X-Buckler-Receipt": "ed25519"})
    assert audit_chain.verify(server.audit).lines == lines + 1
    DiagnosticReport.model_validate_json(report.content)
    (extension,) = report.json()["extension"]
    (tmp_path / "receipt.json").write_bytes(base64.b64decode(extension["valueBase64Binary"]))
    (tmp_path / "picture.jpg").write_bytes(picture)
    public = load_public_keys(keys / PUBLIC_KEY_FILE)
    receipt = verify(tmp_path / "receipt.json", tmp_path / "picture.jpg", public)
    assert receipt.answer["request_id"] == report.json()["id"]
    assert json.loads(server.audit.read_text().splitlines()[-1])["answer"]["label"] == receipt.answer["label"]


@pytest.mark.parametrize(
    ("content", "headers", "code", "issue"),
    [
        (b"no picture", {}, "image_unsupported", "not-supported"),
        (b"", {}, "image_empty", "required"),
        (b"x", {"X-Buckler-Receipt": "rsa"}, "receipt_unsupported", "invalid"),
    ],
)
def test_an_error_is_an_outcome_with_the_contracts_code_and_status(server: Server, content, headers, code, issue):
    response = server.predict(content, **FHIR, **headers)
    assert response.status_code == ErrorCode(code).status
    assert response.headers["content-type"] == "application/fhir+json"
    (found,) = OperationOutcome.model_validate_json(response.content).issue
    assert (found.severity, found.code, found.details.text) == ("error", issue, code)
    assert found.diagnostics


@pytest.mark.parametrize("accept", ["application/fhir+xml", "application/fhir+json; fhirVersion=5.0"])
def test_fhir_that_is_not_served_is_refused_as_an_outcome(server: Server, picture: bytes, accept: str):
    response = server.predict(picture, Accept=accept)
    assert (response.status_code, response.headers["content-type"]) == (406, "application/fhir+json")
    (found,) = OperationOutcome.model_validate_json(response.content).issue
    assert (found.code, found.details.text) == ("not-supported", "not_acceptable")
    assert found.diagnostics == "expected a header Accept with application/fhir+json, fhirVersion=4.0, got others only"


def test_plain_xml_is_refused(server: Server, picture: bytes):
    response = server.predict(picture, Accept="text/xml")
    assert (response.status_code, response.json()["error"]["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("accept", ["application/json+fhir", "application/fhir+xml, */*;q=0.1"])
def test_a_client_that_accepts_another_name_of_fhirs_json_gets_a_report(server: Server, picture: bytes, accept: str):
    response = server.predict(picture, Accept=accept)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/fhir+json")
    DiagnosticReport.model_validate_json(response.content)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_makes_a_valid_outcome(code: ErrorCode):
    OperationOutcome.model_validate(outcome(RefusalError(code)))


@pytest.mark.parametrize(
    ("accept", "fhir"),
    [
        ("application/fhir+json", True),
        ("application/fhir+json; fhirVersion=4.0, application/json;q=0.9", True),
        ("Application/FHIR+json", True),
        ("application/json, application/fhir+json;q=0.5", False),
        ("application/fhir+json;q=0", False),
        ("application/fhir+json;q=half", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_fhir_is_the_answer_only_to_a_request_for_it(accept: str, fhir: bool):
    (row,) = (row for row in ENDPOINTS if row.name == "predict")
    assert (choose(row.gives, accept).media_type == FHIR_JSON) is fhir
