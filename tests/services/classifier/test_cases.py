"""Files and requests that real programs sent, with what viewers show of them, through a real server.

They lie in `cases/files` beside the folder of the real pictures: one folder a case, with `input.*` and `shown.png`, or
`request.bin`.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from buckler.modality.picture import images
from tests.services.running import Server

pytestmark = pytest.mark.slow

ROUNDED = {"F15": 0.2}  # mean difference of pixels in 1/255: a table of gAMA is rounded in another place
SHOWN = (
    *("F01", "F02", "F05", "F06", "F07", "F07j", "F08", "F08h", "F09", "F10", "F10h", "F10j", "F14", "F15", "F16"),
    *("F18", "F19", "F20", "F21", "F22", "F23"),
)


@pytest.fixture(scope="module")
def cases(case_files: Path) -> dict[str, Path]:
    return {each.name.partition("-")[0]: each for each in case_files.iterdir()}


def content(folder: Path) -> bytes:
    (file,) = folder.glob("input.*")
    return file.read_bytes()


def sent(server: Server, request: bytes) -> tuple[int, dict]:
    """Return status and body of the response to the bytes of a request that closes its connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(request)
        head, _, body = b"".join(_received(connection)).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def _received(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(65536):
        yield chunk


def test_every_case_is_tested(cases):
    tested = {
        *SHOWN,
        "F03",
        "F04",
        "F11",
        "F11h",
        "F12",
        "F13",
        "F17",
        "F24",
        "F25",
        "F26",
        "F27",
        "F28",
        "F28i",
        "F29",
    }
    assert set(cases) == tested | {"F30", "F31"} | {"F26"}  # BentoML's own client: test_bentoml


@pytest.mark.parametrize("name", SHOWN)
def test_a_file_is_answered_like_the_picture_that_viewers_show(server: Server, cases, name):
    file, shown = content(cases[name]), (cases[name] / "shown.png").read_bytes()
    difference = np.abs(images.load_pixels(file) - images.load_pixels(shown)).mean() * 255
    assert difference <= ROUNDED.get(name, 0)
    answered = server.predict(file)
    assert answered.status_code == 200, answered.text
    expected = server.predict(shown).json()["probabilities"]
    assert answered.json()["probabilities"] == pytest.approx(expected, abs=0.01 if difference else 1e-5)


@pytest.mark.parametrize(
    ("name", "status", "code", "words"),
    [
        ("F03", 422, "image_unreadable", "are missing"),
        ("F04", 422, "image_unreadable", "got one"),
        ("F11", 415, "image_unsupported", "PDF"),
        ("F11h", 422, "image_unreadable", "PhotometricInterpretation"),
        ("F17", 415, "image_unsupported", "video"),
    ],
)
def test_a_file_that_cannot_be_answered_is_refused_as_what_it_is(server: Server, cases, name, status, code, words):
    response = server.predict(content(cases[name]))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert words in error["message"]


def test_a_phone_of_50_megapixels_is_answered(server: Server, cases):
    assert server.predict(content(cases["F12"])).status_code == 200


def test_an_uncompressed_dicom_file_of_15_megabytes_is_answered(server: Server, cases, tmp_path):
    subprocess.run([sys.executable, cases["F13"] / "make.py"], cwd=tmp_path, check=True, timeout=60)
    assert server.predict((tmp_path / "input.dcm").read_bytes()).status_code == 200


@pytest.mark.parametrize("name", ["F24", "F25"])
def test_a_client_of_the_inference_protocol_is_answered(server: Server, cases, name):
    model = server.predict((cases["F26"] / "picture.jpg").read_bytes()).json()["model"]["name"]
    body = content(cases[name]).replace(b"skin-lesion", model.encode())
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{server.url}/v2/models/{model}/infer", content=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", ["F27", "F28", "F28i", "F29"])
def test_a_request_that_standards_allow_is_answered(server: Server, cases, name):
    status, answer = sent(server, (cases[name] / "request.bin").read_bytes())
    assert (status, answer.get("decision") in ("accept", "review")) == (200, True), answer


def test_fhir_that_is_not_served_is_refused(server: Server, cases):
    status, outcome = sent(server, (cases["F30"] / "request.bin").read_bytes())
    assert (status, outcome["resourceType"]) == (406, "OperationOutcome")


def test_the_command_line_answers_the_other_pictures(server: Server, cases):
    command = [sys.executable, "-m", "buckler.cli", "predict", "--url", server.url, "good.jpg", "missing.jpg"]
    done = subprocess.run(command, cwd=cases["F31"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout.startswith("good.jpg: ")
    assert "missing.jpg: file_unreadable: cannot read it: No such file or directory" in done.stderr
