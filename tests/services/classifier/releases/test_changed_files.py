"""What was verified is what runs: files are changed, truncated and swapped after they were verified."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from benchmarks.signing import MODEL_NAME, write_verdict
from buckler import cli
from buckler.errors import VerdictError
from buckler.serving import pyfunc, selftest
from buckler.serving.assessment import OpenedRelease
from buckler.serving.predictor import Prediction, Predictor
from buckler.serving.release_files import read_release
from buckler.serving.version import Version
from buckler.trust.keys import PUBLIC_KEY_FILE, VERDICT_KEY_ENV, load_public_keys, load_trusted_keys
from buckler.trust.verdict import MODEL_DIR
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import DirectorySource
from services.classifier.settings import Settings
from services.console.attack_preview import AttackPreview
from services.console.service_client import ServiceClient
from services.console.settings import Settings as ConsoleSettings
from tests.openings import counted
from tests.services.running import IMAGE_SIZE, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

EXPORTED = ("runtime.json", "float32.xml", "float32.bin", "int8.xml", "int8.bin", "head.npz")
READ_BY_KERAS = ("classifier.keras", "model.json", "detector.json", "detector.npz", "selftest.npz")
PIXELS = np.random.default_rng(5).uniform(size=(IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def verdict_key(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))


@pytest.fixture(params=["exported", "keras"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def copy(release: Path, keys: Path, tmp_path: Path, engine: str) -> Path:
    """A release that serves with OpenVINO, or with Keras because it has no exported network."""
    copy = Path(shutil.copytree(release, tmp_path / "release"))
    if engine == "keras":
        for name in EXPORTED:
            (copy / MODEL_DIR / name).unlink()
        write_verdict(copy, keys)
    return copy


def verified(release: Path) -> OpenedRelease:
    found = read_release(release, load_trusted_keys(), model=MODEL_NAME)
    assert found.authentic, found.reasons
    return found


def loaded(release: OpenedRelease) -> Predictor:
    """Load and self-test an opened release, as the service does."""
    model = release.files / MODEL_DIR
    predictor = Predictor.of(model, release.require(), threads=1)
    selftest.check(predictor, model)
    return predictor


def answer(predictor: Predictor) -> Prediction:
    return predictor(PIXELS)


def flip_bytes(path: Path) -> None:
    """Change the second half of a file in place; its name, size and inode stay."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(byte ^ 0x55 for byte in content[half:])
    with path.open("r+b") as file:
        file.write(content)


def cut_off(path: Path) -> None:
    os.truncate(path, 1)


def names_read(release: Path, engine: str) -> list[str]:
    """Return the files below ``model/`` that this machine reads to serve with ``engine``."""
    if engine == "keras":
        return list(READ_BY_KERAS)
    precision = Predictor.load(release, load_public_keys(), threads=1).precision
    network = "int8" if precision == "int8" else "float32"
    return ["runtime.json", f"{network}.xml", f"{network}.bin", "head.npz", *READ_BY_KERAS[1:]]


@pytest.mark.parametrize("change", [flip_bytes, cut_off])
def test_no_file_that_was_changed_between_verification_and_loading_is_loaded(copy, engine, change):
    for name in names_read(copy, engine):
        before, release = (copy / MODEL_DIR / name).read_bytes(), verified(copy)
        change(copy / MODEL_DIR / name)
        with pytest.raises(VerdictError, match=name) as caught:
            loaded(release)
        assert caught.value.reason == "digest"
        (copy / MODEL_DIR / name).write_bytes(before)
    loaded(verified(copy))


def put_another_in_its_place(path: Path) -> None:
    flip_bytes(Path(shutil.copy(path, path.with_name("other"))))
    path.with_name("other").replace(path)


def put_a_link_in_its_place(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    path.replace(elsewhere)
    flip_bytes(Path(shutil.copy(elsewhere, path.with_name("other"))))
    path.with_name("other").replace(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("swap", [put_another_in_its_place, put_a_link_in_its_place])
def test_files_put_in_the_place_of_verified_ones_are_not_loaded(copy, engine, swap):
    expected, release = answer(loaded(verified(copy))), verified(copy)
    for name in names_read(copy, engine):
        swap(copy / MODEL_DIR / name)
    assert answer(loaded(release)) == expected


@pytest.mark.parametrize("change", [flip_bytes, cut_off, Path.unlink])
def test_changes_after_loading_change_no_answer(copy, change):
    predictor = loaded(verified(copy))
    expected = answer(predictor)
    for path in (copy / MODEL_DIR).iterdir():
        change(path)
    assert answer(predictor) == expected
    explained, _ = predictor.predict_and_explain(PIXELS)
    assert explained == expected


def load_by_the_service(release: Path) -> None:
    source = DirectorySource(Settings(model_name=MODEL_NAME), release)
    slot = ModelSlot()
    Follower(Settings(model_name=MODEL_NAME), source, slot).check()
    assert slot.served is not None


def load_by_the_predictor(release: Path) -> None:
    Predictor.load(release, load_public_keys())


def load_by_mlflow(release: Path) -> None:
    pyfunc._load_pyfunc(str(release))


def verify_by_the_command(release: Path) -> None:
    assert cli.main(["verify", str(release)]) == 0


def attack_in_the_console(release: Path) -> None:
    digest = verified(release).require().subject_digest
    settings = ConsoleSettings(release=release)
    AttackPreview(settings, ServiceClient(settings))._load({"model": {"name": MODEL_NAME, "digest": digest}})


@pytest.mark.parametrize(
    ("load", "times"),
    [
        (load_by_the_service, 1),
        (load_by_the_predictor, 1),
        (load_by_mlflow, 1),
        (verify_by_the_command, 1),
        (attack_in_the_console, 2),  # `verified` opens them, too
    ],
)
def test_every_file_is_opened_once_to_verify_and_load_it(copy, load: Callable[[Path], None], times):
    with counted(copy) as openings:
        load(copy)
    files = [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]
    assert openings == dict.fromkeys(files, times)
    assert str(copy) not in Path("/proc/self/maps").read_text()  # a mapped file changes under the model


def flip_the_weights(release: Path) -> None:
    for path in release.glob("model/*.[bk]*"):  # bin, keras
        flip_bytes(path)


class Tampering(DirectorySource):
    """A directory whose weights are changed right after they were verified."""

    tampers = True

    @contextmanager
    def fetched(self, entry: Version) -> Iterator[OpenedRelease]:
        with super().fetched(entry) as release:
            if self.tampers:
                flip_the_weights(release.path)
            yield release


def test_the_service_refuses_weights_that_were_changed_after_they_were_verified(copy):
    refused = {"reason": "digest"}
    before = REGISTRY.get_sample_value("buckler_model_refused_total", refused) or 0
    slot, settings = ModelSlot(), Settings(model_name=MODEL_NAME, follow_seconds=0.1)
    source = Tampering(settings, copy)
    following = Follower(settings, source, slot)
    following.check()
    assert slot.served is None
    assert REGISTRY.get_sample_value("buckler_model_refused_total", refused) == before + 1
    source.tampers = False
    flip_the_weights(copy)

    def serves() -> bool:
        following.check()
        return slot.served is not None

    wait_for(serves)  # one change must not keep a release out for ever


def test_truncated_files_neither_stop_a_worker_nor_change_its_answers(release, keys, picture, tmp_path):
    copy = Path(shutil.copytree(release, tmp_path / "release"))
    with serving(tmp_path, keys, BUCKLER_RELEASE=str(copy), BUCKLER_WORKERS="1") as server:
        expected = server.predict(picture)
        assert expected.status_code == 200
        for path in (copy / MODEL_DIR).iterdir():
            os.truncate(path, 1)
        for _ in range(5):
            found = server.predict(picture)
            assert found.status_code == 200, found.text
            assert found.json()["probabilities"] == expected.json()["probabilities"]
        assert server.get("/model").status_code == 200
