"""Opinions of clinicians about answers, through a real server with two workers."""

import json
from pathlib import Path

import httpx
import pytest

from buckler.client import Client, RequestError, UnavailableError
from buckler.trust import audit_chain
from tests.services.running import LABELS, TLS, Server, encode, serving

pytestmark = pytest.mark.slow

UNKNOWN = "0" * 32


def send(server: Server, **content: object) -> httpx.Response:
    return httpx.post(f"{server.url}/feedback", json=content, timeout=60, verify=TLS)


def refused(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def lines(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.audit.read_text().splitlines()]


def other(label: str) -> str:
    return next(each for each in LABELS if each != label)


def test_an_opinion_is_a_line_about_the_answer_and_is_counted(server: Server, picture: bytes):
    answer = server.predict(picture).json()
    counted = {"opinion": "disagree", "decision": answer["decision"]}
    before = server.metric("buckler_feedback_total", **counted)
    label = other(answer["label"])
    response = send(server, request_id=answer["request_id"], opinion="disagree", label=label)
    assert response.status_code == 200
    of_answer = next(line for line in lines(server) if line.get("answer", {}).get("request_id") == answer["request_id"])
    line = lines(server)[-1]
    assert response.json() == {
        "request_id": answer["request_id"],
        "opinion": "disagree",
        "line": line["sequence"],
    }
    assert {name: line[name] for name in ("event", "client", "request_id", "opinion", "label", "answered")} == {
        "event": "feedback",
        "client": "anonymous",
        "request_id": answer["request_id"],
        "opinion": "disagree",
        "label": label,
        "answered": {"line": of_answer["sequence"], "label": answer["label"], "decision": answer["decision"]},
    }
    assert (line["input"], line["model"]) == (of_answer["input"], answer["model"]["digest"])
    assert server.metric("buckler_feedback_total", **counted) == before + 1
    assert audit_chain.verify(server.audit).problem is None


def test_every_worker_knows_the_answers_of_the_others(server: Server, picture: bytes):
    # A new connection each time: some reach the worker that answered, some the other one.
    answer = server.predict(picture).json()
    opinions = [send(server, request_id=answer["request_id"], opinion="agree") for _ in range(12)]
    assert {response.status_code for response in opinions} == {200}


def test_each_of_several_pictures_has_an_opinion_of_its_own(server: Server, picture: bytes):
    files = [("image", ("a.jpg", picture)), ("image", ("b.png", encode("PNG", (40, 40))))]
    answers = httpx.post(f"{server.url}/predict", files=files, timeout=60, verify=TLS).json()["answers"]
    for answer in answers:
        assert send(server, request_id=answer["request_id"], opinion="unsure").status_code == 200
    assert [line["request_id"] for line in lines(server)[-2:]] == [answer["request_id"] for answer in answers]


def test_an_answer_that_was_never_given_gets_no_opinion(server: Server, picture: bytes):
    answer, before = server.predict(picture).json(), len(lines(server))
    for request_id in (UNKNOWN, f"{answer['request_id']}-1", UNKNOWN + "-2"):
        assert refused(send(server, request_id=request_id, opinion="agree")) == (404, "answer_unknown")
    assert len(lines(server)) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": "spider"}, (400, "label_unknown")),
        ({"opinion": "maybe"}, (400, "body_malformed")),
        ({"opinion": None}, (400, "body_malformed")),
        ({"request_id": "../audit"}, (400, "body_malformed")),
        ({"name": "Erika"}, (400, "body_malformed")),
        ({"label": "x" * 5000}, (413, "body_too_large")),
    ],
)
def test_other_contents_are_refused_and_nothing_is_written(server: Server, picture: bytes, changes, expected):
    answer, before = server.predict(picture).json(), len(lines(server))
    content = {"request_id": answer["request_id"], "opinion": "unsure", **changes}
    response = send(server, **content)
    assert refused(response) == expected
    assert "Erika" not in response.text
    assert "spider" not in response.text
    assert len(lines(server)) == before


@pytest.mark.parametrize("opinion", ["agree", "disagree"])
def test_a_label_may_not_contradict_the_opinion(server: Server, picture: bytes, opinion: str):
    answer = server.predict(picture).json()
    wrong, right = answer["label"], other(answer["label"])
    if opinion == "agree":
        wrong, right = right, wrong
    response = send(server, request_id=answer["request_id"], opinion=opinion, label=wrong)
    assert refused(response) == (400, "body_malformed")
    assert "expected the label of the answer" in response.json()["error"]["message"]
    assert send(server, request_id=answer["request_id"], opinion=opinion, label=right).status_code == 200


def test_the_client_records_an_opinion_and_raises_refusals(server: Server, picture: bytes):
    with Client(server.url) as client:
        answer = client.predict(picture)
        line = client.feedback(answer.request_id, "disagree", label=other(answer.label))
        assert lines(server)[-1]["sequence"] == line
        assert client.feedback(answer.request_id, "unsure") == line + 1
        with pytest.raises(RequestError, match="answer_unknown"):
            client.feedback(UNKNOWN, "agree")


def test_opinions_count_towards_the_limits_of_a_key(strict: tuple[Server, list[str]], picture: bytes):
    server, secrets = strict
    headers = {"authorization": f"Bearer {secrets.pop()}"}

    def opinion() -> httpx.Response:
        content = {"request_id": UNKNOWN, "opinion": "agree"}
        return httpx.post(f"{server.url}/feedback", json=content, headers=headers, timeout=60, verify=TLS)

    answers = [refused(opinion()) for _ in range(7)]
    assert answers == [(404, "answer_unknown")] * 6 + [(429, "rate_limited")]


def test_an_answer_from_before_a_restart_gets_an_opinion(tmp_path: Path, release: Path, keys: Path, picture: bytes):
    log = tmp_path / "audit.jsonl"
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_AUDIT_LOG": str(log)}
    with serving(tmp_path / "before", keys, **settings) as server:
        answer = server.predict(picture).json()
    with serving(tmp_path / "after", keys, **settings) as server:
        assert send(server, request_id=answer["request_id"], opinion="agree").status_code == 200
    assert audit_chain.verify(log).problem is None


def test_without_an_audit_log_the_service_says_that_it_records_no_opinion(
    tmp_path: Path, release: Path, keys: Path, picture: bytes
):
    with serving(tmp_path, keys, BUCKLER_RELEASE=str(release), BUCKLER_AUDIT_LOG="off") as server:
        answer = server.predict(picture).json()
        assert refused(send(server, request_id=answer["request_id"], opinion="agree")) == (404, "feedback_unavailable")
        with Client(server.url) as client, pytest.raises(UnavailableError, match="keeps no audit log"):
            client.feedback(answer["request_id"], "agree")
        assert server.metric("buckler_feedback_total") == 0
