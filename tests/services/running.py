"""Helpers: draw a picture, run the service as an operator does."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from drills.service import COMMAND, RunningService, running
from services.classifier.endpoints import ENDPOINTS
from services.classifier.releases.follower import follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.routing import Table
from services.classifier.served import Served
from services.classifier.settings import Settings
from tests.key_files import public_env

IMAGE_SIZE = 32
TLS = httpx.create_ssl_context()  # unused, but httpx reads the system's certificates for every client without one
LABELS = ("benign", "malignant")
SERVICES: dict[str, Table] = {}  # the endpoints of each running service by address, for `openapi_check`


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
        files = {"image": (name, picture)}
        return httpx.post(f"{self.url}/predict", files=files, headers=headers, timeout=60, verify=TLS)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=60, verify=TLS)


@contextmanager
def serving(
    directory: Path, keys: Path, *, command: Sequence[str] = COMMAND, table: Table = ENDPOINTS, **settings: str
) -> Iterator[Server]:
    """Run the service until the context ends; it begins when all workers are ready."""
    env = public_env(keys) | settings
    workers = int(settings.get("BUCKLER_WORKERS", "1"))
    with running(directory, env, workers=workers, command=command) as service:
        SERVICES[service.url] = table
        try:
            yield Server(service.port, service.directory, service.process)
        finally:
            del SERVICES[service.url]


@contextmanager
def bentoml_serving(directory: Path, keys: Path, target: str, **options: Any) -> Iterator[Server]:
    """Run the service ``target`` (``module:name``) with BentoML's own command, as ``serving``."""
    command = ("-m", "bentoml", "serve", target, "--host", "127.0.0.1")
    own = {"BUCKLER_BOUND_HOST": "127.0.0.1", "BENTOML_DO_NOT_TRACK": "True", "OPENBLAS_NUM_THREADS": "1"}
    with serving(directory, keys, command=command, **own, **options) as server:
        yield server
