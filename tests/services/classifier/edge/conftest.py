"""A real server with short timeouts, for clients that misbehave."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.classifier.edge.timeouts import BODY_SECONDS, HEAD_SECONDS, SEND_SECONDS
from tests.services.running import Server, encode, serving


@pytest.fixture(scope="session")
def exposed(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[Server]:
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_AUDIT_FSYNC": "interval",
        # 64 megapixels take seconds, on a busy machine longer than the defaults allow.
        "BUCKLER_DECODE_TIMEOUT_SECONDS": "30",
        "BUCKLER_REQUEST_TIMEOUT_SECONDS": "60",
        "BUCKLER_HEAD_TIMEOUT_SECONDS": str(HEAD_SECONDS),
        "BUCKLER_SEND_TIMEOUT_SECONDS": str(SEND_SECONDS),
        "BUCKLER_BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
    }
    with serving(tmp_path_factory.mktemp("exposed"), keys, **settings) as server:
        server.predict(encode("PNG", (40, 40)))
        yield server
