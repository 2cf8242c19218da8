"""Helpers: sign a verdict, draw a picture, run the service as an operator does."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from buckler.trust import digests, verdict
from buckler.trust.keys import PRIVATE_KEY_FILE, PUBLIC_KEY_FILE, load_private_key
from drills.service import RunningService, running
from services.classifier.releases.follower import follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.served import Served
from services.classifier.settings import Settings

IMAGE_SIZE = 32
MODEL_NAME = "skin-lesion"
LABELS = ("benign", "malignant")


def write_verdict(release: Path, keys: Path, name: str = MODEL_NAME, **changes: object) -> None:
    """Sign a verdict about the current files of ``release``."""
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
    """Return what a worker serves after its first check for a release."""
    slot = ModelSlot()
    follow(settings, slot).check()
    return slot.served


def encode(kind: str, size: tuple[int, int]) -> bytes:
    """Return a picture of noise, ``size`` as width and height, in the format ``kind``."""
    pixels = np.random.default_rng(3).integers(60, 200, size=(size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


class Server(RunningService):
    """A running service and its clients."""

    def predict(self, picture: bytes, name: str = "picture.jpg", **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", files={"image": (name, picture)}, headers=headers, timeout=60)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)


@contextmanager
def serving(directory: Path, keys: Path, **settings: str) -> Iterator[Server]:
    """Run the service until the context ends; it begins when all workers are ready."""
    env = {"BUCKLER_VERDICT_KEY": str(keys / PUBLIC_KEY_FILE), **settings}
    with running(directory, env, workers=int(settings.get("BUCKLER_WORKERS", "1"))) as service:
        yield Server(service.port, service.directory, service.process)
