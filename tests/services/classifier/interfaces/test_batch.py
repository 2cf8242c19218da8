"""Several pictures in one request, through a real server."""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

from buckler.trust import audit_chain
from buckler.trust.keys import load_public_keys
from buckler.trust.receipt import PUBLIC_KEY_FILE, verify
from services.classifier.contract import Answer, BatchAnswer, ErrorAnswer
from tests.services.classifier.test_http import scrape, total
from tests.services.running import TLS, Server, encode, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BROKEN = encode("JPEG", (200, 200))[:1500]


def send(url: str, *pictures: bytes, **headers: str) -> httpx.Response:
    files = [("image", (f"Erika-{number}.jpg", picture)) for number, picture in enumerate(pictures)]
    return httpx.post(f"{url}/predict", files=files, headers=headers, timeout=60, verify=TLS)


def test_the_answers_are_in_the_order_of_the_pictures(server: Server, picture: bytes):
    other = encode("PNG", (40, 40))
    response = send(server.url, picture, other, picture)
    assert response.status_code == 200
    answers = BatchAnswer.model_validate_json(response.content, strict=True).answers
    alone = [Answer.model_validate_json(server.predict(each).content) for each in (picture, other)]
    for answer, expected in zip(answers, [alone[0], alone[1], alone[0]], strict=True):
        assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    ids = [answer.request_id for answer in answers]
    assert ids == [f"{response.headers['x-request-id']}-{number}" for number in (1, 2, 3)]


def test_one_picture_is_answered_without_a_list(server: Server, picture: bytes):
    assert "answers" not in send(server.url, picture).json()


def test_a_bad_picture_has_an_error_in_its_place_and_the_others_are_answered(server: Server, picture: bytes):
    response = send(server.url, BROKEN, picture, b"", b"hello")
    assert response.status_code == 200
    first, second, third, last = BatchAnswer.model_validate_json(response.content).answers
    assert isinstance(second, Answer)
    codes = [each.error.code for each in (first, third, last) if isinstance(each, ErrorAnswer)]
    assert codes == ["image_unreadable", "image_empty", "image_unsupported"]


def test_each_answer_is_recorded_and_counted_but_no_bad_picture(server: Server, picture: bytes):
    lines, before = audit_chain.verify(server.audit).lines, scrape(server)
    answers = send(server.url, picture, BROKEN, picture).json()["answers"]
    report, after = audit_chain.verify(server.audit), scrape(server)
    assert (report.problem, report.lines) == (None, lines + 2)
    written = [json.loads(line) for line in server.audit.read_text().splitlines()[-2:]]
    assert [line["answer"] for line in written] == [answers[0], answers[2]]
    assert {line["input"] for line in written} == {f"sha256:{hashlib.sha256(picture).hexdigest()}"}
    for name in ("buckler_predictions_total", "buckler_detector_score_count", "buckler_inference_seconds_count"):
        assert total(after, name) - total(before, name) == 2
    counted = {"endpoint": "/predict", "code": "200"}
    assert total(after, "buckler_requests_total", **counted) - total(before, "buckler_requests_total", **counted) == 1
    assert "Erika" not in server.log.read_text() + server.audit.read_text()


def test_each_answer_has_its_own_receipt(server: Server, picture: bytes, keys, tmp_path):
    other = encode("PNG", (40, 40))
    answers = send(server.url, picture, other, **{"X-Buckler-Receipt": "ed25519"}).json()["answers"]
    public = load_public_keys(keys / PUBLIC_KEY_FILE)
    for number, (answer, content) in enumerate(zip(answers, (picture, other), strict=True)):
        (tmp_path / f"{number}.json").write_text(json.dumps(answer))
        (tmp_path / f"{number}.jpg").write_bytes(content)
        receipt = verify(tmp_path / f"{number}.json", tmp_path / f"{number}.jpg", public)
        assert receipt.answer["request_id"] == answer["request_id"]


def test_concurrent_batches_and_single_pictures_get_their_own_answers(server: Server, picture: bytes):
    with ThreadPoolExecutor(4) as pool:
        batches = pool.map(lambda count: send(server.url, *[picture] * count), [1, 3, 2, 4, 1, 2])
        assert [len(each.json().get("answers", [None])) for each in batches] == [1, 3, 2, 4, 1, 2]


def test_a_batch_is_not_computed_further_after_its_timeout(tmp_path, release, keys, picture):
    large = io.BytesIO()
    Image.new("RGB", (5000, 5000), (200, 120, 90)).save(large, "JPEG")
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_REQUEST_TIMEOUT_SECONDS": "0.3"}
    with serving(tmp_path, keys, **settings) as server:
        response = send(server.url, *[large.getvalue()] * 8)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
        wait_for(lambda: server.predict(picture).status_code == 200)  # the thread has dropped the batch
        lines = [json.loads(line) for line in server.audit.read_text().splitlines()]
        assert "Traceback" not in server.log.read_text()
    of_the_batch = [line for line in lines if line["answer"]["request_id"].startswith(response.headers["x-request-id"])]
    assert len(of_the_batch) < 4


def test_each_picture_of_a_batch_counts_towards_the_keys_limits(strict, picture):
    server, secrets = strict
    key = f"Bearer {secrets.pop()}"
    responses = [send(server.url, *[picture] * count, authorization=key) for count in (5, 4, 1, 1, 1)]
    codes = [each.json().get("error", {}).get("code", each.status_code) for each in responses]
    # Five pictures exceed the concurrency of four; that refusal and the batch of four leave one token of six.
    assert codes == ["too_many_at_once", 200, 200, "rate_limited", "rate_limited"]
    assert int(responses[-1].headers["retry-after"]) > 60
