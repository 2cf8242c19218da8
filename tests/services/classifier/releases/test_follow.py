"""A real service through HTTP: a new release without a lost request, a killed worker, an unwritable audit log."""

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.signing import write_verdict
from tests.services.classifier.test_http import error_code
from tests.services.running import Server, serving
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(release: Path, module_tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, module_tmp_path / "place/release"))


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, place: Path, keys: Path) -> Iterator[Server]:
    settings = {
        "BUCKLER_RELEASE": str(place),
        "BUCKLER_WORKERS": "2",
        "BUCKLER_FOLLOW_SECONDS": "0.3",
        "BUCKLER_FOLLOW_JITTER_SECONDS": "0.2",
    }
    with serving(tmp_path_factory.mktemp("followed"), keys, **settings) as server:
        yield server


def verdicts_of(server: Server, picture: bytes) -> set[str]:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.predict(picture), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    return {answer.json()["model"]["verdict"] for answer in answers}


def test_a_valid_release_becomes_live_without_a_failed_request_and_an_invalid_one_does_not(
    followed, place, keys, picture
):
    (old,) = verdicts_of(followed, picture)
    write_verdict(place, keys)
    seen: list[set[str]] = []
    wait_for(lambda: bool(seen.append(verdicts_of(followed, picture))) or old not in seen[-1])
    (new,) = seen[-1]
    assert set().union(*seen) <= {old, new}  # on a busy machine the first answers may be the new release's already

    write_verdict(place, keys, passed=False, reasons=("weak",))
    refused = 'buckler_model_refused_total{reason="failed"} 2.0'
    wait_for(lambda: refused in followed.get("/metrics").text)
    assert "buckler_release_behind 1.0" in followed.get("/metrics").text
    assert verdicts_of(followed, picture) == {new}
    assert followed.get("/readyz").status_code == 200
    write_verdict(place, keys)
    wait_for(lambda: "buckler_release_behind 0.0" in followed.get("/metrics").text)


def test_a_killed_worker_is_replaced_within_seconds(followed, picture):
    def started() -> list[str]:
        return [line for line in followed.log.read_text().splitlines() if "bound to" in line]

    before = len(started())
    workers = followed.workers()
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert wait_for(lambda: len(started()) > before) < 30
    assert verdicts_of(followed, picture)


def test_without_a_writable_audit_log_the_service_answers_audit_unavailable(followed, picture):
    kept = followed.audit.parent.rename(followed.audit.parent.with_name("aside"))
    followed.audit.parent.touch()  # a file instead of the directory: writing fails
    try:
        assert error_code(followed.predict(picture)) == "audit_unavailable"
    finally:
        followed.audit.parent.unlink()
        kept.rename(followed.audit.parent)
    assert followed.predict(picture).status_code == 200
