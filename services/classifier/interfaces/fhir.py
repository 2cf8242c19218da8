"""Answers as FHIR R4 `DiagnosticReport`, for clients that send ``Accept: application/fhir+json``.

A report is ``preliminary`` and names no patient: the patient of a DICOM file is not read, and the client knows whose
picture it sent. Codes that FHIR does not define are below ``urn:buckler:fhir``.

The resources are plain dictionaries; the library that validates them in the tests takes 0.4 s to load and adds
nothing. Source: http://hl7.org/fhir/R4/diagnosticreport.html, observation.html, device.html.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from buckler.error_codes import ErrorCode
from services.classifier.contract import Answer, ErrorForm, RefusalError

FHIR_JSON = "application/fhir+json"
ALIASES = ("application/json+fhir",)  # of earlier versions of the standard
VERSION = "4.0"
MEDIA_TYPES = (
    FHIR_JSON,
    *ALIASES,
    "application/fhir+xml",
    "application/xml+fhir",
    "application/fhir+turtle",
    "application/fhir+ndjson",
)
OWN = "urn:buckler:fhir"
# From the value set "LOINC Imaging Document Codes", which has no narrower code for dermoscopy.
STUDY = {"system": "http://loinc.org", "code": "18748-4", "display": "Diagnostic imaging study"}
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
UCUM = "http://unitsofmeasure.org"
# From the required value set http://hl7.org/fhir/R4/valueset-issue-type.html, by error code or else by status.
ISSUES: Mapping[ErrorCode, str] = {
    ErrorCode.IMAGE_UNSUPPORTED: "not-supported",
    ErrorCode.IMAGE_TOO_LARGE: "too-long",
    ErrorCode.IMAGE_EMPTY: "required",
    ErrorCode.NOT_ACCEPTABLE: "not-supported",
}
ISSUES_OF_STATUS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "login",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    HTTPStatus.INTERNAL_SERVER_ERROR: "exception",
    HTTPStatus.SERVICE_UNAVAILABLE: "transient",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout",
}


def response(items: Sequence[Answer | RefusalError]) -> Response:
    """Return the response to pictures: one answer as a `DiagnosticReport`, several as a `Bundle`."""
    now = datetime.now(UTC)
    resources = [report(each, now) if isinstance(each, Answer) else outcome(each) for each in items]
    if len(resources) == 1:
        return JSONResponse(resources[0], media_type=FHIR_JSON)
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": now.isoformat(),
        "entry": [{"resource": each} for each in resources],
    }
    return JSONResponse(bundle, media_type=FHIR_JSON)


def report(answer: Answer, moment: datetime) -> dict[str, Any]:
    """Return the `DiagnosticReport` of an answer, which contains the observations and the model as a device."""
    conclusion = _conclusion(answer)
    extensions = []
    if answer.receipt:
        envelope = json.dumps(answer.receipt.model_dump()).encode()
        extensions = [{"url": f"{OWN}:receipt", "valueBase64Binary": base64.b64encode(envelope).decode()}]
    return {
        "resourceType": "DiagnosticReport",
        "id": answer.request_id,
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(conclusion)}</p></div>',
        },
        "contained": [_device(answer), _label(answer), _decision(answer), _detector(answer)],
        **({"extension": extensions} if extensions else {}),
        "status": "preliminary",
        "code": {"coding": [STUDY], "text": "Classification of a picture"},
        "effectiveDateTime": moment.isoformat(),
        "issued": moment.isoformat(),
        "result": [{"reference": f"#{name}"} for name in ("label", "decision", "detector")],
        "conclusion": conclusion,
    }


def _conclusion(answer: Answer) -> str:
    share = answer.probabilities[answer.label]
    review = answer.decision == "review"
    advice = "a person must review the picture" if review else "the automatic checks found no reason for review"
    reasons = f" ({', '.join(answer.reasons)})" if answer.reasons else ""
    frame = f"Frame {answer.frame}: " if answer.frame else ""
    found = f"{frame}{answer.label}, {share:.0%}; {answer.decision}{reasons}: {advice}."
    return f"{found} Produced by a model, not by a person."


def _device(answer: Answer) -> dict[str, Any]:
    model = answer.model
    return {
        "resourceType": "Device",
        "id": "model",
        "extension": [{"url": f"{OWN}:verdict", "valueString": model.verdict}],
        "identifier": [{"system": f"{OWN}:model-digest", "value": model.digest}],
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "type": {"text": "Image classifier with a signed verdict of its adversarial evaluation"},
        "version": [{"value": model.version}],
    }


def _label(answer: Answer) -> dict[str, Any]:
    by_name = answer.findings or answer.probabilities
    shares = [{"code": {"text": name}, "valueQuantity": _number(p)} for name, p in by_name.items()]
    text = "Most probable set of findings" if answer.findings else "Most probable class"
    return _observation("label", text, {"valueCodeableConcept": {"text": answer.label}}) | {"component": shares}


def _decision(answer: Answer) -> dict[str, Any]:
    value = {"valueCodeableConcept": _own("decision", answer.decision)}
    reasons = [
        {"code": _own("observation", "reason"), "valueCodeableConcept": _own("reason", reason)}
        for reason in answer.reasons
    ]
    observation = _observation("decision", "Whether a person must review the answer", value)
    return observation | ({"component": reasons} if reasons else {})


def _detector(answer: Answer) -> dict[str, Any]:
    detector = answer.detector
    flag = ("H", "High") if detector.verdict == "adversarial" else ("N", "Normal")
    coding = {"system": INTERPRETATION, "code": flag[0], "display": flag[1]}
    value = {"valueQuantity": _number(detector.score)}
    return _observation("detector", "Score of the adversarial-input detector", value) | {
        "interpretation": [{"coding": [coding], "text": detector.verdict}],
        "referenceRange": [{"high": _number(detector.threshold), "text": "A score above it flags the picture"}],
    }


def _observation(name: str, text: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "code": {**_own("observation", name), "text": text},
        "device": {"reference": "#model"},
        **value,
    }


def _own(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{OWN}:{system}", "code": code}], "text": code}


def _number(value: float) -> dict[str, Any]:
    return {"value": value, "system": UCUM, "code": "1"}


def outcome(refusal: RefusalError) -> dict[str, Any]:
    """Return the `OperationOutcome` of an error."""
    code = refusal.code
    issue = {
        "severity": "error",
        "code": ISSUES.get(code) or ISSUES_OF_STATUS.get(code.status, "invalid"),
        "details": _own("error", code),
        "diagnostics": refusal.detail,
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


ERROR_FORM = ErrorForm(FHIR_JSON, outcome)
