"""Helpers: signs a verdict, draws a picture, runs the service as an operator would."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from buckler.trust import digests, verdict
from buckler.trust.keys import PRIVATE_KEY_FILE, PUBLIC_KEY_FILE, load_private_key
from drills.service import end, free_port
from services.classifier.releases.follower import follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.served import Served
from services.classifier.settings import Settings

ROOT = Path(__file__).parents[2]
IMAGE_SIZE = 32
MODEL_NAME = "skin-lesion"
LABELS = ("benign", "malignant")


def write_verdict(release: Path, keys: Path, name: str = MODEL_NAME, **changes: object) -> None:
    """Sign a verdict about the bytes that lie in ``release`` now."""
    now = datetime.now(UTC)
    statement = {
        "schema": verdict.SCHEMA,
        "subject": {"name": name, "digest": digests.directory_digest(release / verdict.MODEL_DIR)},
        "passed": True,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "evidence": digests.file_digests(release / verdict.EVIDENCE_DIR),
        **changes,
    }
    key = load_private_key(keys / PRIVATE_KEY_FILE)
    (release / verdict.VERDICT_FILE).write_text(json.dumps(verdict.sign(statement, key)))


def load_served(settings: Settings) -> Served | None:
    """Return what a worker serves after its first look."""
    holder = ModelSlot()
    follow(settings, holder).check()
    return holder.served


def encode(kind: str, size: tuple[int, int]) -> bytes:
    pixels = np.random.default_rng(3).integers(60, 200, size=(size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


@dataclass(frozen=True)
class Server:
    """A running service."""

    url: str
    home: Path
    log: Path
    audit: Path

    def predict(self, picture: bytes, name: str = "picture.jpg", **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", files={"image": (name, picture)}, headers=headers, timeout=60)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)


@contextmanager
def serving(directory: Path, keys: Path, **settings: str) -> Iterator[Server]:
    """Run the service as an operator would, until all workers answer; stop it afterwards."""
    port = free_port()
    home, log, audit = (directory / name for name in ("bentoml", "service.log", "audit/audit.jsonl"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("BUCKLER_", "BENTOML_"))},
        "BENTOML_HOME": str(home),
        "BUCKLER_VERDICT_KEY": str(keys / PUBLIC_KEY_FILE),
        "BUCKLER_RELEASES_DIR": str(directory / "releases"),
        "BUCKLER_AUDIT_LOG": str(audit),
        "BUCKLER_TRAFFIC_URL": f"sqlite:///{directory / 'traffic.db'}",
        **settings,
    }
    command = [sys.executable, "-m", "services.classifier", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    server = Server(f"http://127.0.0.1:{port}", home, log, audit)
    try:
        wait_until_alive(server, process, int(settings.get("BUCKLER_WORKERS", "1")))
        yield server
    finally:
        end(process)


def wait_until_alive(server: Server, process: "subprocess.Popen[bytes]", workers: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if server.log.read_text().count("Service classifier initialized") == workers:
            return
        time.sleep(0.3)
    raise AssertionError(f"the service does not start:\n{server.log.read_text()}")
