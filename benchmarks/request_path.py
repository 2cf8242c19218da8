"""Counts the Python that one request of each kind passes, in this checkout and in another one.

Reads   another checkout of the project with its own ``.venv`` (``make setup``)
Writes  docs/results/request_path.json

Each checkout prepares its own release of the tiny network. A process for each kind of request starts the whole
application without a network socket, answers one request, then traces another one of the same kind. The tables have the
distinct lines that were executed and the number of modules that contain them. Native code has no lines.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks import load, servers, serving, traced_request, versions
from benchmarks import results as documents
from benchmarks.signing import MODEL_NAME
from benchmarks.tables import markdown
from buckler.errors import BucklerError
from buckler.modality.picture.images import load_pixels
from buckler.trust import keys
from pipelines.stage import stage

COMMAND = "python -m benchmarks.request_path CHECKOUT"
PLAN = serving.Plan(32, "tiny")
PACKAGES = ("services", "buckler", "bentoml", "opentelemetry", "starlette", "anyio", "PIL")
BENTOML_PARTS = ("_bentoml_impl", "_bentoml_sdk")
STANDARD, OTHERS, ALL = "standard library", "other packages", "all"
GROUPS = (*PACKAGES, OTHERS, STANDARD, ALL)
# What runs beside the requests is off: the counts are about a request's own path.
SETTINGS = {
    "BUCKLER_REQUIRE_KEYS": "never",
    "BUCKLER_FOLLOW_SECONDS": "3600",
    "BUCKLER_TRAFFIC_URL": "off",
    "BENTOML_DO_NOT_TRACK": "True",
}

Modules = Mapping[str, int]  # distinct executed lines by module


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request and the name of its kind."""

    kind: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Trace:
    """What one request passed in a version, ``versions.BEFORE`` or ``versions.AFTER``."""

    kind: str
    version: str
    modules: Modules


def run(before: Path, module: str, out: Path) -> None:
    """Trace, write the results and print the tables.

    Args:
        before: The other checkout.
        module: The other checkout's module with ``Plan`` and ``prepare``.
        out: Folder of the document.
    """
    checkouts = {versions.BEFORE: before, versions.AFTER: servers.ROOT}
    commits = {version: versions.commit_of(checkout) for version, checkout in checkouts.items()}
    pythons = {versions.BEFORE: versions.python_of(before), versions.AFTER: Path(sys.executable)}
    with tempfile.TemporaryDirectory(prefix="buckler-path-") as scratch:
        folders = {version: Path(scratch) / version for version in checkouts}
        for folder in folders.values():
            folder.mkdir()
        versions.prepare(before, module, PLAN, folders[versions.BEFORE])
        sent = requests(serving.prepare(PLAN, folders[versions.AFTER]))
        found = [
            Trace(request.kind, version, trace(request, checkout, pythons[version], folders[version]))
            for request in sent
            for version, checkout in checkouts.items()
        ]
    made = tables(found, commits)
    settings = {"network": PLAN.network, "image_size": PLAN.image_size, "environment": SETTINGS}
    written = documents.new("request_path", COMMAND, made, seeds=[PLAN.seed], settings=settings).write(out)
    print("\n\n".join(markdown(table) for table in made.values()))
    print(f"wrote {written}")


def requests(pictures: Sequence[bytes]) -> tuple[Request, ...]:
    """Return a request of each kind, made of the first two of several JPEG files."""
    first, second = pictures[:2]
    pixels = load_pixels(first, size=PLAN.image_size)
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, *pixels.shape], "data": pixels.ravel().tolist()}
    infer = json.dumps({"inputs": [tensor]}).encode()
    return (
        _form("one picture", "/predict", first),
        _form("two pictures", "/predict", first, second),
        Request("DICOM", "/predict", {"content-type": "application/dicom"}, dicom(pixels)),
        _form("FHIR", "/predict", first, accept="application/fhir+json"),
        Request(
            "Open Inference Protocol", f"/v2/models/{MODEL_NAME}/infer", {"content-type": "application/json"}, infer
        ),
        _form("explanation", "/explain", first),
    )


def _form(kind: str, path: str, *pictures: bytes, accept: str = "application/json") -> Request:
    files = [("image", ("picture.jpg", picture, "image/jpeg")) for picture in pictures]
    # A random boundary could change the lines that a parser passes.
    headers = {"content-type": f"multipart/form-data; boundary={load.BOUNDARY}", "accept": accept}
    built = httpx.Request("POST", f"http://127.0.0.1{path}", files=files, headers=headers)
    return Request(kind, path, headers, built.read())


def dicom(pixels: NDArray[np.float32]) -> bytes:
    """Return a DICOM file of one uncompressed picture.

    Args:
        pixels: ``(height, width, 3)`` in 0..1.
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, VLPhotographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = VLPhotographicImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    content = np.rint(pixels * 255).astype(np.uint8).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def trace(request: Request, checkout: Path, python: Path, folder: Path) -> Modules:
    """Return the lines by module that ``request`` passes in a checkout.

    Args:
        request: The request.
        checkout: The checkout whose service answers.
        python: The interpreter of its environment.
        folder: The directory with the release that the checkout prepared.

    Raises:
        BucklerError: The service did not start or did not answer with status 200.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        (body := Path(scratch) / "body").write_bytes(request.body)
        described = {"path": request.path, "headers": dict(request.headers), "body": str(body)}
        (sent := Path(scratch) / "request.json").write_text(json.dumps(described))
        found = Path(scratch) / "found.json"
        # -P: the folder of the script must not come before the checkout's packages.
        done = subprocess.run(  # noqa: S603 - the user's own checkout
            [python, "-P", traced_request.__file__, sent, found],
            cwd=checkout,
            env=servers.environment(_settings(checkout, folder, Path(scratch))),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise BucklerError(f"{request.kind} in {checkout} was not answered:\n{done.stdout[-2000:]}")
        print(f"{request.kind} in {checkout}", file=sys.stderr)
        return dict(json.loads(found.read_text()))


def _settings(checkout: Path, folder: Path, scratch: Path) -> dict[str, str]:
    return SETTINGS | {
        "PYTHONPATH": servers.import_path(checkout),
        "PATH": os.environ.get("PATH", ""),
        "BENTOML_HOME": str(scratch / "bentoml"),
        "BUCKLER_RELEASE": str(folder / "release"),
        "BUCKLER_VERDICT_KEY": str(folder / keys.PUBLIC_KEY_FILE),
        "BUCKLER_AUDIT_LOG": str(scratch / "audit/audit.jsonl"),
        "BUCKLER_RELEASES_DIR": str(scratch / "releases"),
    }


def tables(found: Sequence[Trace], commits: Mapping[str, str]) -> dict[str, documents.Table]:
    """Return the table of lines and the table of modules, a row for each kind of request and version."""
    columns = [documents.Column(key, key) for key in ("request", "version", "commit")]
    columns += [documents.Column(group, group, ",") for group in GROUPS]
    lines, modules = [], []
    for each in found:
        row = {"request": each.kind, "version": each.version, "commit": commits[each.version]}
        lines.append({**row, **_by_group(each.modules.items())})
        modules.append({**row, **_by_group((name, 1) for name in each.modules)})
    return {
        "lines": documents.Table(tuple(columns), tuple(lines)),
        "modules": documents.Table(tuple(columns), tuple(modules)),
    }


def _by_group(numbers: Iterable[tuple[str, int]]) -> dict[str, documents.CellValue]:
    sums = dict.fromkeys(GROUPS, 0)
    for module, number in numbers:
        sums[group_of(module)] += number
        sums[ALL] += number
    return dict(sums)


def group_of(module: str) -> str:
    """Return the column of a module."""
    package = module.partition(".")[0]
    if package in BENTOML_PARTS:
        return "bentoml"
    if package in PACKAGES:
        return package
    return STANDARD if package in sys.stdlib_module_names else OTHERS


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="the other checkout, with its own .venv")
    module = versions.MODULE
    parser.add_argument("--module", default=module, help=f"its module with Plan and prepare (default: {module})")
    documents.add_options(parser)
    given = parser.parse_args()
    run(given.checkout.resolve(), given.module, given.out or documents.DIRECTORY)


if __name__ == "__main__":
    stage(main)
