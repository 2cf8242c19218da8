"""The client and `buckler predict` against a real service."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.servers import free_port
from buckler import cli
from buckler.client import (
    AccessError,
    Answer,
    Client,
    ImageError,
    RequestError,
    ServiceError,
    UnavailableError,
    UnreachableError,
)
from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError, ReceiptError
from buckler.trust import receipt
from buckler.trust.keys import PUBLIC_KEY_FILE, generate_key_pair, load_public_keys
from tests.services.running import LABELS, Server, encode

pytestmark = pytest.mark.slow


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def public(keys: Path):
    return load_public_keys(keys / receipt.PUBLIC_KEY_FILE)


@pytest.fixture
def path(picture: bytes, tmp_path: Path) -> Path:
    (tmp_path / "Erika.jpg").write_bytes(picture)
    return tmp_path / "Erika.jpg"


def test_an_answer_has_the_fields_of_the_services_answer(client: Client, server: Server, picture: bytes, path: Path):
    answer, plain = client.predict(path), server.predict(picture).json()
    assert isinstance(answer, Answer)
    assert answer.label in LABELS
    assert answer.probabilities == pytest.approx(plain["probabilities"], abs=1e-5)
    assert (answer.decision, list(answer.reasons)) == (plain["decision"], plain["reasons"])
    assert answer.model.digest == plain["model"]["digest"]
    assert answer.detector.verdict == plain["detector"]["verdict"]
    assert answer.receipt is None
    assert answer.content["request_id"] == answer.request_id


def test_several_pictures_are_answered_in_order_with_an_error_for_an_unusable_one(client: Client, picture: bytes):
    first, second = client.predict_many([picture, b"not a picture"])
    assert isinstance(first, Answer)
    assert isinstance(second, ImageError)
    assert second.code == "image_unsupported"
    (alone,) = client.predict_many([picture])
    assert isinstance(alone, Answer)


def test_a_refusal_raises_the_exception_of_its_group_with_code_status_and_request_id(client: Client):
    with pytest.raises(ImageError, match="image_empty: ") as caught:
        client.predict(b"")
    assert (caught.value.status, caught.value.retry_after) == (400, None)
    assert caught.value.advice == ErrorCode.IMAGE_EMPTY.advice
    assert len(caught.value.request_id) == 32
    with pytest.raises(RequestError, match="label_unknown: "):
        client.explain(encode("PNG", (40, 40)), label="melanoma")


def test_an_explanation_has_the_answer_the_picture_and_the_regions_that_decide(client: Client, path: Path):
    found, plain = client.explain(path), client.predict(path)
    assert found.label == found.answer.label == plain.label
    assert found.answer.probabilities == pytest.approx(plain.probabilities, abs=1e-5)
    assert (found.answer.receipt, found.heat_map) == (None, "shown")
    picture, overlay = (Image.open(io.BytesIO(content)) for content in (found.picture, found.overlay))
    assert (picture.format, overlay.format) == ("PNG", "PNG")
    assert picture.size == overlay.size == (160, 120)
    assert np.array_equal(picture, Image.open(path).convert("RGB"))
    assert not np.array_equal(picture, overlay)

    (other,) = set(LABELS) - {plain.label}
    explained = client.explain(path, label=other)
    assert (explained.label, explained.answer.label) == (other, plain.label)
    assert (explained.picture, explained.overlay) == (found.picture, found.overlay)


def test_the_card_describes_the_model_that_answers(client: Client, picture: bytes):
    card, model = client.model_card(), client.predict(picture).model
    assert (card["model"]["digest"], card["verdict"]["id"]) == (model.digest, model.verdict)


def test_a_receipt_is_verified_before_the_answer_is_returned(server: Server, picture: bytes, public, tmp_path):
    with Client(server.url, receipt_key=public) as client:
        answer = client.predict(picture)
        assert answer.receipt.answer["request_id"] == answer.request_id
        assert all(each.receipt for each in client.predict_many([picture, encode("PNG", (40, 40))]))
        explained = client.explain(picture).answer
        assert explained.receipt.answer["request_id"] == explained.request_id
    generate_key_pair(tmp_path)
    other = load_public_keys(tmp_path / PUBLIC_KEY_FILE)
    with Client(server.url, receipt_key=other) as client:
        for request in (client.predict, client.explain):
            with pytest.raises(ReceiptError, match=r"the answer: .*signature"):
                request(picture)


def test_the_client_waits_as_long_as_the_service_asks_and_retries(strict, picture):
    (server, secrets), waits = strict, []
    secret = secrets.pop()
    with Client(server.url) as client, pytest.raises(AccessError, match="key_missing: "):
        client.predict(picture)
    with Client(server.url, key=secret, retries=2, longest_wait=1000, sleep=waits.append) as client:
        assert client.predict(picture).label
        assert len(client.predict_many([picture] * 4)) == 4
        assert client.predict(picture).label  # the last of six
        assert waits == []
        with pytest.raises(UnavailableError, match="rate_limited: ") as caught:
            client.predict(picture)
    assert waits == [caught.value.retry_after] * 2
    with Client(server.url, key=secret, longest_wait=5, sleep=waits.append) as client:
        with pytest.raises(UnavailableError, match="rate_limited: "):
            client.predict(picture)
        assert len(waits) == 2
        # The card needs a key, but does not count against its limits.
        assert client.model_card()["model"]["name"] == "skin-lesion"


def test_without_a_service_the_client_retries_and_raises(picture):
    waits: list[float] = []
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, retries=3, sleep=waits.append) as client, pytest.raises(UnreachableError, match=f"from {url}: "):
        client.predict(picture)
    assert waits == [0.5, 1.0, 2.0]


def test_foreign_answers_and_missing_files_are_errors(client: Client, tmp_path):
    with Client(client._url + "/docs/assets") as lost, pytest.raises(ServiceError):
        lost.predict(b"x")
    with pytest.raises(BucklerError, match=r"cannot read .*none\.jpg"):
        client.predict(tmp_path / "none.jpg")


# --- buckler predict


def test_the_command_prints_a_line_per_picture_and_exits_with_the_worst_code(server, path, tmp_path, capsys):
    with Client(server.url) as client:
        answer = client.predict(path)
    assert cli.main(["predict", str(path), "--url", server.url]) == int(answer.decision == "review")
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: {answer.label} {answer.probabilities[answer.label]:.1%}, {answer.decision}")

    (tmp_path / "bad.jpg").write_text("not a picture")
    assert cli.main(["predict", str(path), str(tmp_path / "bad.jpg"), "--url", server.url]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{tmp_path / 'bad.jpg'}: image_unsupported: ")
    assert captured.out == out


def unreadable_paths(folder: Path) -> dict[Path, str]:
    """Return paths that cannot be read, with the reason."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to(folder / "gone.jpg")
    (folder / "file").touch()
    return {
        folder / "missing.jpg": "No such file or directory",
        folder: "Is a directory",
        folder / "pipe.jpg": "it is a pipe or a device, not a file",
        folder / "link.jpg": "No such file or directory",
        folder / "file/picture.jpg": "Not a directory",
        folder / f"{'x' * 300}.jpg": "File name too long",
        Path("/dev/zero"): "it is a pipe or a device, not a file",
        Path("/proc/self/mem"): "Input/output error",  # opens, but cannot be read
    }


def test_the_command_answers_the_other_pictures_if_a_path_cannot_be_read(server, path, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    reasons = unreadable_paths(tmp_path / "folder")
    names = [str(path), *map(str, reasons), str(path)]
    assert cli.main(["predict", *names, "--url", server.url]) == 2
    captured = capsys.readouterr()
    assert [line.startswith(f"{path}: ") for line in captured.out.splitlines()] == [True, True]
    assert captured.err.splitlines() == [
        f"{name}: file_unreadable: cannot read it: {reason}" for name, reason in reasons.items()
    ]
    assert cli.main(["predict", *names, "--url", server.url, "--json"]) == 2
    first, *errors, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["answer"]["label"] == last["answer"]["label"]
    assert errors == [
        {"file": str(name), "error": {"code": "file_unreadable", "message": f"cannot read it: {reason}"}}
        for name, reason in reasons.items()
    ]


def test_a_name_that_is_not_utf_8_is_printed(server, picture, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/L\xe4sion.jpg")
    Path(name).write_bytes(picture)
    command = [sys.executable, "-m", "buckler.cli", "predict", name, f"{name}.none", "--url", server.url]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 2
    assert done.stdout.startswith(f"{tmp_path}/L\\udce4sion.jpg: ")
    assert done.stderr.splitlines() == [
        f"{tmp_path}/L\\udce4sion.jpg.none: file_unreadable: cannot read it: No such file or directory"
    ]


def test_the_command_prints_json_for_programs(server, path, tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    assert cli.main(["predict", str(path), str(tmp_path / "empty.jpg"), "--url", server.url, "--json"]) == 2
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["file"], first["answer"]["label"] in LABELS) == (str(path), True)
    assert second["error"]["code"] == "image_empty"
    assert not second["error"]["message"].startswith("image_empty")


def test_the_command_rejects_an_answer_without_a_valid_receipt(server, path, keys, tmp_path, capsys):
    command = ["predict", str(path), "--url", server.url, "--receipt-key"]
    assert cli.main([*command, str(keys / receipt.PUBLIC_KEY_FILE)]) in (0, 1)
    generate_key_pair(tmp_path)
    assert cli.main([*command, str(tmp_path / PUBLIC_KEY_FILE)]) == 1
    assert "refused: " in capsys.readouterr().err


def test_the_command_exits_2_if_the_service_is_unreachable(path, capsys, monkeypatch):
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "sleep", lambda _: None)
    assert cli.main(["predict", str(path), "--url", f"http://127.0.0.1:{free_port()}"]) == 2
    assert "error: no answer from" in capsys.readouterr().err


def test_the_client_needs_neither_tensorflow_nor_bentoml():
    code = "import sys, buckler.client; print({'tensorflow', 'keras', 'bentoml', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
