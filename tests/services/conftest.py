"""A small signed release, and a real server of it with two workers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.signing import write_verdict
from buckler.serving import api_keys
from buckler.trust import receipt, verdict
from buckler.trust.keys import PROMOTIONS, VERDICTS, generate_key_pair
from tests import screenings
from tests.forms import square
from tests.services.openapi_check import pytest_runtest_call, watched_answers  # noqa: F401 - pytest finds them
from tests.services.running import IMAGE_SIZE, LABELS, Server, encode, serving


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    generate_key_pair(directory, VERDICTS, PROMOTIONS)
    receipt.generate_key_pair(directory)
    return directory


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """The tiny network with random weights and a detector that was fitted on random pictures."""
    from buckler.models import checkpoint, export
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY
    from buckler.models.runtime import FILES, Runtime, RuntimeInfo
    from buckler.serving import selftest

    network = TINY.build(square(IMAGE_SIZE), len(LABELS), head=HeadShape((8,)), seed=7)
    info = checkpoint.ModelInfo(
        LABELS, ("malignant",), square(IMAGE_SIZE), data_version="sha256:test", architecture="tiny"
    )
    pictures = np.random.default_rng(7).uniform(size=(40, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    release = tmp_path_factory.mktemp("releases") / "release"
    model = release / verdict.MODEL_DIR
    checkpoint.save(network, info, model)
    export.write(network, pictures, model)
    RuntimeInfo(("int8", "float32"), "test").save(model)
    labels = np.arange(len(pictures)) % len(LABELS)
    screening = screenings.fit(Runtime(model / FILES["int8"], "int8"), pictures, labels, min_confidence=0.5)
    screening.save(model)
    selftest.write(model)
    (release / verdict.EVIDENCE_DIR).mkdir()
    (release / verdict.EVIDENCE_DIR / "gate.json").write_text('{"passed": true}\n')
    write_verdict(release, keys)
    return release


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A JPEG that is larger than the model's input."""
    return encode("JPEG", (160, 120))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[Server]:
    """The service of the release, with two workers."""
    key = str(keys / receipt.PRIVATE_KEY_FILE)
    settings = {"BUCKLER_RELEASE": str(release), "BUCKLER_WORKERS": "2", "BUCKLER_RECEIPT_KEY": key}
    with serving(tmp_path_factory.mktemp("server"), keys, **settings) as server:
        yield server


@pytest.fixture(scope="session")
def server_without_model(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Server]:
    """The service with a release that has no verdict."""
    directory = tmp_path_factory.mktemp("without")
    (directory / "release/model").mkdir(parents=True)
    settings = {"BUCKLER_RELEASE": str(directory / "release"), "BUCKLER_RECEIPT_KEY": str(directory / "none.pem")}
    with serving(directory, keys, **settings) as server:
        yield server


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory, release: Path, keys: Path) -> Iterator[tuple[Server, list[str]]]:
    """The service with narrow limits for each key, and unused keys; take one with ``pop``."""
    directory = tmp_path_factory.mktemp("strict")
    ring = directory / "api.json"
    secrets = [api_keys.create(ring, role=api_keys.Role.PREDICT, name=f"ward-{number}")[1] for number in range(3)]
    settings = {
        "BUCKLER_RELEASE": str(release),
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(ring),
        "BUCKLER_KEY_REQUESTS_PER_SECOND": "0.01",
        "BUCKLER_KEY_BURST": "6",
        "BUCKLER_KEY_CONCURRENCY": "4",
    }
    with serving(directory, keys, **settings) as server:
        yield server, secrets
