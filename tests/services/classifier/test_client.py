"""The client and `buckler predict` against a real service."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from buckler import cli
from buckler.client import Answer, Client, ServiceError, UnreachableError
from buckler.client import errors as client_errors
from buckler.errors import BucklerError, ReceiptError
from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from buckler.trust import receipt
from buckler.trust.keys import PUBLIC_KEY_FILE, generate_key_pair, load_public_key
from drills.service import free_port
from services.classifier.contract import ERRORS
from tests.services.running import LABELS, Server, encode, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def public(keys: Path):
    return load_public_key(keys / receipt.PUBLIC_KEY_FILE)


@pytest.fixture
def path(picture: bytes, tmp_path: Path) -> Path:
    (tmp_path / "Erika.jpg").write_bytes(picture)
    return tmp_path / "Erika.jpg"


def test_there_is_one_exception_for_each_code_of_the_service():
    assert set(client_errors.ServiceError.ERRORS) == set(ERRORS)
    assert len(set(client_errors.ServiceError.ERRORS.values())) == len(ERRORS)


def test_an_answer_is_what_the_service_says(client: Client, server: Server, picture: bytes, path: Path):
    answer, plain = client.predict(path), server.predict(picture).json()
    assert isinstance(answer, Answer)
    assert answer.label in LABELS
    assert answer.probabilities == pytest.approx(plain["probabilities"], abs=1e-5)
    assert (answer.decision, list(answer.reasons)) == (plain["decision"], plain["reasons"])
    assert answer.model.digest == plain["model"]["digest"]
    assert answer.detector.verdict == plain["detector"]["verdict"]
    assert answer.receipt is None
    assert answer.content["request_id"] == answer.request_id


def test_several_pictures_come_back_in_their_order_with_an_error_for_a_bad_one(client: Client, picture: bytes):
    first, second = client.predict_many([picture, b"no picture"])
    assert isinstance(first, Answer)
    assert isinstance(second, client_errors.ImageUnsupportedError)
    assert isinstance(second, client_errors.ImageError)
    (alone,) = client.predict_many([picture])
    assert isinstance(alone, Answer)


def test_a_refusal_is_the_exception_of_its_code_with_what_an_operator_asks_for(client: Client):
    with pytest.raises(client_errors.ImageEmptyError, match="image_empty: ") as caught:
        client.predict(b"")
    assert (caught.value.status, caught.value.retry_after) == (400, None)
    assert len(caught.value.request_id) == 32
    with pytest.raises(client_errors.LabelUnknownError):
        client.explain(encode("PNG", (40, 40)), label="melanoma")


def test_an_explanation_is_a_picture_and_the_card_that_of_the_model(client: Client, picture: bytes):
    assert Image.open(io.BytesIO(client.explain(picture, label="benign"))).size == (160, 120)
    assert client.model_card()["model"]["digest"] == client.predict(picture).model.digest


def test_a_receipt_is_checked_before_the_answer_is_given(server: Server, picture: bytes, public, tmp_path):
    with Client(server.url, receipt_key=public) as client:
        answer = client.predict(picture)
        assert answer.receipt.answer["request_id"] == answer.request_id
        assert all(each.receipt for each in client.predict_many([picture, encode("PNG", (40, 40))]))
    generate_key_pair(tmp_path)
    other = load_public_key(tmp_path / PUBLIC_KEY_FILE)
    with Client(server.url, receipt_key=other) as client, pytest.raises(ReceiptError, match=r"the answer: .*signature"):
        client.predict(picture)


def test_it_waits_as_long_as_the_service_says_and_tries_again(tmp_path, release, keys, picture):
    ring, waits = tmp_path / "api.json", []
    _, secret = api_keys.create(ring, role=Role.PREDICT, name="ward-3")
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(ring),
        "BUCKLER_KEY_REQUESTS_PER_SECOND": "0.01",
        "BUCKLER_KEY_BURST": "1",
    }
    with serving(tmp_path, keys, **settings) as server:
        with Client(server.url) as client, pytest.raises(client_errors.KeyMissingError):
            client.predict(picture)
        with Client(server.url, key=secret, retries=2, longest_wait=1000, sleep=waits.append) as client:
            assert client.predict(picture).label
            with pytest.raises(client_errors.RateLimitedError) as caught:
                client.predict(picture)
        assert waits == [caught.value.retry_after] * 2
        with Client(server.url, key=secret, longest_wait=5, sleep=waits.append) as client:
            with pytest.raises(client_errors.RateLimitedError):
                client.predict(picture)
            assert len(waits) == 2
            # The card needs the key and no place.
            assert client.model_card()["model"]["name"] == "skin-lesion"


def test_where_nobody_listens_it_tries_again_and_says_so(picture):
    waits: list[float] = []
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=3, sleep=waits.append) as client, pytest.raises(UnreachableError, match=f"from {url}: "):
        client.predict(picture)
    assert waits == [0.5, 1.0, 2.0]


def test_an_answer_that_is_not_the_services_is_an_error_and_a_new_code_too(client: Client, tmp_path):
    with Client(client._url + "/docs/assets") as lost, pytest.raises(ServiceError):
        lost.predict(b"x")
    assert type(ServiceError.of("brand_new", "text")) is ServiceError
    with pytest.raises(BucklerError, match=r"cannot read .*none\.jpg"):
        client.predict(tmp_path / "none.jpg")


# --- buckler predict


def test_the_command_prints_a_line_a_picture_and_its_exit_code_tells_the_worst(server, path, tmp_path, capsys):
    with Client(server.url) as client:
        answer = client.predict(path)
    assert cli.main(["predict", str(path), "--url", server.url]) == int(answer.decision == "review")
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {answer.label} {answer.probabilities[answer.label]:.1%}, {answer.decision}")

    (tmp_path / "bad.jpg").write_text("no picture")
    assert cli.main(["predict", str(path), str(tmp_path / "bad.jpg"), "--url", server.url]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{tmp_path / 'bad.jpg'}: image_unsupported: ")
    assert captured.out == out


def test_the_command_prints_json_for_programs(server, path, tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    assert cli.main(["predict", str(path), str(tmp_path / "empty.jpg"), "--url", server.url, "--json"]) == 2
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["file"], first["answer"]["label"] in LABELS) == (str(path), True)
    assert second["error"]["code"] == "image_empty"
    assert not second["error"]["message"].startswith("image_empty")


def test_the_command_takes_no_answer_without_a_receipt_that_holds(server, path, keys, tmp_path, capsys):
    command = ["predict", str(path), "--url", server.url, "--receipt-key"]
    assert cli.main([*command, str(keys / receipt.PUBLIC_KEY_FILE)]) in (0, 1)
    generate_key_pair(tmp_path)
    assert cli.main([*command, str(tmp_path / PUBLIC_KEY_FILE)]) == 1
    assert "refused: " in capsys.readouterr().err


def test_the_command_says_that_nobody_answers(path, capsys, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert cli.main(["predict", str(path), "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    assert "error: no answer from" in capsys.readouterr().err


def test_the_client_needs_neither_tensorflow_nor_bentoml():
    code = "import sys, buckler.client; print({'tensorflow', 'keras', 'bentoml', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
