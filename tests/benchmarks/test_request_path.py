"""Counting what a request passes: an application with known lines, and the table of invented counts."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import request_path, versions
from benchmarks.request_path import Request, Trace
from buckler.errors import BucklerError
from buckler.modality.picture import images, uploads

SERVICE = """
import asyncio
from services.classifier import work

class Classifier:
    @staticmethod
    def to_asgi():
        return app

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    message = await receive()
    status = int(message["body"])
    await asyncio.to_thread(work.answer, status)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""
WORK = """
def answer(status):
    for _ in range(5):
        status += 1
    if status < 0:
        return None
    return status
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "services/classifier"
    folder.mkdir(parents=True)
    for file, text in {"../__init__.py": "", "__init__.py": "", "service.py": SERVICE, "work.py": WORK}.items():
        (folder / file).write_text(text)
    return tmp_path


def traced(checkout: Path, body: bytes) -> request_path.Modules:
    return request_path.trace(Request("small", "/", {}, body), checkout, Path(sys.executable), checkout)


def test_each_line_that_a_request_passes_counts_once_in_threads_too(checkout: Path):
    found = traced(checkout, b"200")
    assert {module: lines for module, lines in found.items() if module.startswith("services")} == {
        "services.classifier.service": 6,  # from the first `if` on, without the body of the lifespan
        "services.classifier.work": 4,
    }
    assert found["asyncio.threads"] > 0
    assert "__main__" not in found


def test_a_request_without_its_answer_is_one_clear_error(checkout: Path):
    with pytest.raises(BucklerError, match=r"(?s)small in .* was not answered:.*expected status 200 from /, got 503"):
        traced(checkout, b"503")


def test_the_dicom_file_contains_the_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.float32) / 255
    decoded = uploads.load_pixels(request_path.dicom(pixels), size=32)
    np.testing.assert_allclose(decoded, pixels, atol=1 / 255)


def test_there_is_a_request_of_each_kind():
    grey = np.full((32, 32, 3), 0.5, np.float32)
    sent = {request.kind: request for request in request_path.requests([images.to_png(grey), images.to_png(grey)])}
    assert set(sent) == {"one picture", "two pictures", "DICOM", "FHIR", "Open Inference Protocol", "explanation"}
    assert sent["two pictures"].body.count(b'name="image"') == 2


def test_the_tables_sum_lines_and_modules_by_package():
    modules = {"services.a": 3, "_bentoml_sdk.io": 5, "bentoml": 1, "json.decoder": 7, "numpy.x": 11, "buckler": 2}
    found = [Trace("one picture", version, modules) for version in (versions.BEFORE, versions.AFTER)]
    made = request_path.tables(found, {versions.BEFORE: "aaaaaaa", versions.AFTER: "bbbbbbb"})
    lines, counts = made["lines"].rows[0], made["modules"].rows[0]
    columns = ("services", "buckler", "bentoml", "starlette", "other packages", "standard library", "all")
    assert [lines[column] for column in columns] == [3, 2, 6, 0, 11, 7, 29]
    assert [counts[column] for column in columns] == [1, 1, 2, 0, 1, 1, 6]
    assert [(row["version"], row["commit"]) for row in made["lines"].rows] == [
        ("before", "aaaaaaa"),
        ("after", "bbbbbbb"),
    ]
