"""A real server with two workers, queried through HTTP like by clients and Prometheus."""

import hashlib
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from buckler import cli
from buckler.error_codes import ErrorCode
from buckler.trust import audit_chain
from services.classifier.contract import Answer, ErrorAnswer
from services.classifier.settings import Settings
from tests.services.running import LABELS, Server, encode
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

LIMIT = Settings().body_limit_bytes
HEX_ID = re.compile(r"[0-9a-f]{32}")


def error_code(response: httpx.Response) -> str:
    """Return the code of an error answer, which must have the form of the contract."""
    assert set(response.json()) == {"error"}
    error = ErrorAnswer.model_validate_json(response.content).error
    assert error.message
    assert response.status_code == ErrorCode(error.code).status
    assert HEX_ID.fullmatch(response.headers["x-request-id"])
    return error.code


def scrape(server: Server, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(server.get("/metrics", **headers).text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return sum(value for (each, have), value in samples.items() if each == name and set(labels.items()) <= have)


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header states ``width`` x ``height`` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(3 * 1000 * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def form(*parts: tuple[str, tuple[str | None, bytes]]) -> httpx.Request:
    return httpx.Request("POST", "http://test/predict", files=list(parts))


def endless(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536 + 1):
        yield bytes(65536)


def test_a_good_picture_gets_the_answer_of_the_contract(server: Server, picture: bytes):
    response = server.predict(picture)
    assert response.status_code == 200
    answer = Answer.model_validate_json(response.content, strict=True)
    assert set(answer.probabilities) == set(LABELS)
    assert answer.request_id == response.headers["x-request-id"]
    assert answer.model.digest.startswith("sha256:")
    assert answer.model.verdict.startswith("sha256:")
    assert response.headers["cache-control"] == "no-store"


def test_the_same_picture_gets_the_same_answer_from_every_worker(server: Server, picture: bytes):
    with ThreadPoolExecutor(8) as pool:
        answers = [response.json() for response in pool.map(lambda _: server.predict(picture), range(16))]
    assert len({answer.pop("request_id") for answer in answers}) == 16
    assert all(answer["label"] == answers[0]["label"] for answer in answers)
    first = answers[0]
    for answer in answers:
        assert answer["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)
        assert answer["detector"]["score"] == pytest.approx(first["detector"]["score"], rel=1e-4)


def test_png_and_jpeg_are_accepted_whatever_their_file_name(server: Server):
    for kind in ("PNG", "JPEG"):
        assert server.predict(encode(kind, (40, 40)), "holiday.txt").status_code == 200


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("JPEG", "image/jpg"), ("PNG", "application/octet-stream")],
)
def test_a_picture_may_be_the_body_itself(server: Server, kind: str, media_type: str):
    picture = encode(kind, (40, 40))
    headers = {"content-type": media_type}
    response = httpx.post(f"{server.url}/predict", content=picture, headers=headers, timeout=60)
    answer, in_form = Answer.model_validate_json(response.content), server.predict(picture).json()
    assert answer.probabilities == in_form["probabilities"]


GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00;"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "image_empty", id="empty file"),
        pytest.param(encode("JPEG", (200, 200))[:1500], "image_unreadable", id="truncated JPEG"),
        pytest.param(encode("PNG", (200, 200))[:1500], "image_unreadable", id="truncated PNG"),
        pytest.param(b"I am a text, whatever my name says", "image_unsupported", id="text named .jpg"),
        pytest.param(b'{"json": 1}', "image_unsupported", id="JSON named .jpg"),
        pytest.param(GIF, "image_unsupported", id="GIF"),
        pytest.param(bomb(13000, 13000), "image_too_large", id="decompression bomb"),
        pytest.param(bomb(2**31 - 1, 2**31 - 1), "image_too_large", id="absurd size"),
    ],
)
def test_a_bad_picture_is_refused_with_its_code(server: Server, content: bytes, code: str):
    assert error_code(server.predict(content)) == code


@pytest.mark.parametrize(
    ("content_type", "content", "code"),
    [
        pytest.param(None, b"", "media_type_unsupported", id="empty body"),
        pytest.param("image/gif", GIF, "image_unsupported", id="bare GIF"),
        pytest.param("image/jpeg", b"", "image_empty", id="bare picture without bytes"),
        pytest.param("image/jpeg", b"text", "image_unsupported", id="bare text"),
        pytest.param("application/json", b'{"image": "x"}', "image_unsupported", id="JSON"),
        pytest.param(
            "application/x-www-form-urlencoded", b"image=http://localhost", "media_type_unsupported", id="URL"
        ),
        pytest.param("application/vnd.bentoml+pickle", b"\x80\x04.", "media_type_unsupported", id="pickle"),
        pytest.param("multipart/form-data", b"x", "media_type_unsupported", id="no boundary"),
        pytest.param("multipart/form-data; boundary=b", b"", "body_malformed", id="empty form"),
        pytest.param("multipart/form-data; boundary=b", b"--c\r\n\r\n", "body_malformed", id="other boundary"),
        pytest.param(
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nhalf',
            "body_malformed",
            id="cut form",
        ),
    ],
)
def test_a_bad_body_is_refused_with_its_code(server, content_type, content, code):
    headers = {"content-type": content_type} if content_type else {}
    response = httpx.post(f"{server.url}/predict", content=content, headers=headers, timeout=60)
    assert error_code(response) == code


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param([("picture", ("a.jpg", b"x"))], "field_missing", id="missing field"),
        pytest.param([("image", (None, b"http://localhost/a.jpg"))], "field_missing", id="URL in place of a file"),
        pytest.param([("image", ("a.jpg", b"x"))] * 9, "too_many_pictures", id="nine pictures"),
        pytest.param([("image", ("a.jpg", b"x")), ("name", (None, b"y"))], "field_unknown", id="extra field"),
        pytest.param([(f"f{i}", (None, b"")) for i in range(1001)], "field_unknown", id="1001 fields"),
    ],
)
def test_a_form_with_other_fields_is_refused_with_its_code(server: Server, fields, code: str):
    assert error_code(httpx.post(f"{server.url}/predict", files=fields, timeout=60)) == code


@pytest.mark.parametrize("announced", [True, False], ids=["with content-length", "without content-length"])
def test_a_body_over_the_limit_is_refused_while_it_is_read(server: Server, announced: bool):
    content = bytes(LIMIT + 1) if announced else endless(LIMIT)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    if not announced:
        content = _in_form(endless(LIMIT))
    response = httpx.post(f"{server.url}/predict", content=content, headers=headers, timeout=60)
    assert error_code(response) == "body_too_large"


def _in_form(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    yield from chunks


def test_a_picture_just_below_the_limit_is_decoded(server: Server):
    padded = encode("PNG", (40, 40)) + bytes(LIMIT - 100_000)
    assert server.predict(padded).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_refused_and_the_right_one_named(server: Server, method: str):
    response = httpx.request(method, f"{server.url}/predict", timeout=60)
    assert error_code(response) == "method_not_allowed"
    assert response.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/predict//",
        "/predict%0A",
        "//predict",
        "/bento.json",
        "/static_content/index.css",
        "/docs/x",
    ],
)
def test_unknown_paths_and_those_of_bentoml_are_not_found(server: Server, path: str):
    assert error_code(server.get(path)) == "not_found"
    assert error_code(httpx.post(server.url + path, files={"image": b"x"}, timeout=60)) in (
        "not_found",
        "method_not_allowed",
    )


def test_the_service_is_alive_and_ready(server: Server):
    assert [server.get(path).status_code for path in ("/livez", "/readyz", "/healthz")] == [200] * 3


def test_counters_sum_over_all_workers_at_every_scrape(server: Server, picture: bytes):
    n = 16
    before = scrape(server)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: server.predict(picture).status_code, range(n)))
        statuses += pool.map(lambda _: server.predict(b"no picture").status_code, range(n))
    assert statuses == [200] * n + [415] * n

    requests = partial(total, name="buckler_requests_total", endpoint="/predict")
    wait_for(lambda: requests(scrape(server)) == requests(before) + 2 * n)  # an answer is counted after it was sent
    for _ in range(10):  # each scrape is a new connection, so either worker may answer it
        after = scrape(server)

        def gained(name: str, after=after, **labels: str) -> float:
            return total(after, name, **labels) - total(before, name, **labels)

        assert gained("buckler_requests_total", endpoint="/predict", code="200") == n
        assert gained("buckler_requests_total", endpoint="/predict", code="415") == n
        assert gained("buckler_request_seconds_count", endpoint="/predict") == 2 * n
        assert gained("buckler_inference_seconds_count") == n
        assert gained("buckler_predictions_total") == n
        assert gained("buckler_detector_score_count") == n
        assert [value for (name, _), value in after.items() if name == "buckler_model_info"] == [1]


def test_all_workers_write_one_audit_chain_with_a_line_for_each_answer(server: Server, picture: bytes):
    before = audit_chain.verify(server.audit).lines
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.predict(picture, "Erika-Mustermann.jpg").json(), range(20)))
        list(pool.map(lambda _: server.predict(b"no picture"), range(20)))
    report = audit_chain.verify(server.audit)
    assert (report.problem, report.lines) == (None, before + 20)
    lines = [json.loads(line) for line in server.audit.read_text().splitlines()[before:]]
    assert sorted(line["answer"]["request_id"] for line in lines) == sorted(each["request_id"] for each in answers)
    assert {line["input"] for line in lines} == {f"sha256:{hashlib.sha256(picture).hexdigest()}"}
    assert not re.search(r"Erika|/", server.audit.read_text())


def test_a_client_verifies_a_receipt_with_the_picture_and_the_public_key(server, picture, tmp_path, capsys):
    answer = server.predict(picture, **{"X-Buckler-Receipt": "ed25519"})
    key = server.get("/receipts.pub")
    assert (answer.status_code, key.status_code) == (200, 200)
    for name, content in (("answer.json", answer.content), ("picture.jpg", picture), ("receipts.pub", key.content)):
        (tmp_path / name).write_bytes(content)
    command = ["verify-receipt", str(tmp_path / "answer.json"), "--key", str(tmp_path / "receipts.pub")]
    command += ["--model-digest", answer.json()["model"]["digest"]]
    assert cli.main([*command, "--image", str(tmp_path / "picture.jpg")]) == 0
    assert capsys.readouterr().out.startswith(f"valid: {answer.json()['label']}")
    assert cli.main([*command, "--image", str(tmp_path / "receipts.pub")]) == 1


def test_both_workers_take_requests(server: Server, picture: bytes):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: server.predict(picture), range(40)))
    counted = [
        sum(value for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)) if "/predict" in key)
        for file in (server.home / "prometheus_multiproc_dir").glob("counter_*.db")
    ]
    assert len(counted) == 2
    assert min(counted) > 0


def test_series_exist_from_the_start_and_labels_come_from_closed_sets(server: Server):
    server.get("/Erika-Mustermann.jpg")
    samples = scrape(server)
    names = {name for name, _ in samples}
    assert total(samples, "buckler_requests_total", endpoint="other", code="404") >= 1
    assert "buckler_model_refused_total" in names
    assert {dict(labels)["label"] for name, labels in samples if name == "buckler_predictions_total"} == set(LABELS)
    assert total(samples, "buckler_model_verdict_expiry_timestamp_seconds") > 0
    assert not any("Erika" in text for _, labels in samples for _, text in labels)


def test_neither_file_name_nor_path_nor_traceback_of_a_bad_request_is_logged(server: Server):
    server.predict(b"GEHEIM", "Erika-Mustermann.jpg")
    server.get("/Erika-Mustermann.jpg")
    response = server.predict(encode("JPEG", (200, 200))[:1500], "Erika-Mustermann.jpg")
    deadline = time.monotonic() + 10
    while response.headers["x-request-id"] not in (log := server.log.read_text()):  # the line follows the answer
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "error=image_unreadable" in log
    assert not re.search(r"Erika|GEHEIM|Traceback", log)


def test_the_openapi_document_matches_the_contract(server: Server, picture: bytes):
    document = server.get("/docs.json").json()
    assert document["openapi"].startswith("3.1")
    operation = document["paths"]["/predict"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert (form["required"], list(form["properties"])) == (["image"], ["image"])

    answer = document["components"]["schemas"]["Answer"]
    assert set(server.predict(picture).json()) == set(answer["required"])
    with_receipt = server.predict(picture, **{"X-Buckler-Receipt": "ed25519"}).json()
    # Frames are of files with several, findings of models with several labels at once.
    assert set(with_receipt) == set(answer["properties"]) - {"frame", "findings"}
