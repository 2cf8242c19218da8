"""Releases on disk: downloaded once, verified each time, whole or absent."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buckler.errors import RegistryError, VerdictError
from buckler.release import tracking
from buckler.serving import registry as model_registry
from buckler.serving.release_cache import ABANDONED_SECONDS, LOCK_FILE, ReleaseCache
from buckler.trust.verdict import open_release
from tests import projects

NAME = "skin-lesion"
WAY_OUT = "../elsewhere"


class Downloads:
    """Version numbers and the releases behind them; counts the downloads."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.count = directory, 0
        self.releases: dict[str, Path] = {}

    def publish(self, number: str, **options: object) -> str:
        """Build a release of its own for version ``number``; return the id of its verdict."""
        root = projects.make_project(self.directory / number, weights=number.encode())
        verdict = projects.build(root, name=NAME, **options)
        self.releases[number] = root / "models/release"
        return verdict.id

    def download(self, model_name: str, number: str, destination: Path) -> Path:
        self.count += 1
        if number not in self.releases:
            raise RegistryError(f"no version {number}")
        return Path(shutil.copytree(self.releases[number], destination))


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    found = Downloads(tmp_path / "registry")
    monkeypatch.setattr(model_registry, "download", found.download)
    return found


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(directory):
    return ReleaseCache(directory, NAME, keep=2)


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {LOCK_FILE}


def name_of(verdict_id: str) -> str:
    return verdict_id.replace(":", "-")


def test_a_registered_version_is_downloaded_from_a_real_registry(project, registry, cache, directory):
    verdict = projects.build(project, name=registry)
    run = tracking.start_run(registry, "test", {})
    uri = tracking.log_release(run, project / "models/release", labels=projects.LABELS, shape=(32, 32, 3))
    tracking.finish_run(run)
    number = tracking.register(registry, uri, tags={}, description="")
    found = ReleaseCache(directory, registry, keep=1).get(number, projects.PUBLIC, verdict_id=verdict.id)
    assert found.verdict == verdict
    assert open_release(found.path, projects.PUBLIC) == verdict
    assert entries(directory) == {name_of(verdict.id)}


def test_a_release_is_downloaded_once(cache, downloads, directory):
    verdict_id = downloads.publish("1")
    first, second = (cache.get("1", projects.PUBLIC, verdict_id=verdict_id) for _ in range(2))
    assert first == second
    assert downloads.count == 1
    assert entries(directory) == {name_of(verdict_id)}


def test_users_that_ask_at_the_same_time_share_one_download(downloads, directory):
    verdict_id = downloads.publish("1")
    ready = threading.Barrier(4)

    def ask(_: int) -> Path:
        ready.wait()
        return ReleaseCache(directory, NAME, keep=2).get("1", projects.PUBLIC, verdict_id=verdict_id).path

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert downloads.count == 1


def test_a_damaged_copy_is_downloaded_again(cache, downloads):
    verdict_id = downloads.publish("1")
    path = cache.get("1", projects.PUBLIC, verdict_id=verdict_id).path
    (path / "model/detector.json").write_text("{}")
    assert cache.find(verdict_id, projects.PUBLIC) is None
    assert open_release(cache.get("1", projects.PUBLIC, verdict_id=verdict_id).path, projects.PUBLIC).id == verdict_id
    assert downloads.count == 2


def test_a_release_that_fails_verification_is_not_stored(cache, downloads, directory):
    verdict_id = downloads.publish("1")
    (downloads.releases["1"] / "model/detector.json").write_text("{}")
    with pytest.raises(VerdictError, match=r"differ from the digests in the verdict: .'detector\.json'"):
        cache.get("1", projects.PUBLIC, verdict_id=verdict_id)
    with pytest.raises(VerdictError, match=r"differ from the digests in the verdict: .'detector\.json'"):
        cache.add(downloads.releases["1"], projects.PUBLIC)
    assert entries(directory) == set()


def test_a_release_of_another_model_is_not_stored(downloads, directory):
    verdict_id = downloads.publish("1")
    with pytest.raises(VerdictError, match="about a model named 'skin-lesion', not 'lungs'"):
        ReleaseCache(directory, "lungs", keep=2).get("1", projects.PUBLIC, verdict_id=verdict_id)
    assert entries(directory) == set()


def test_a_version_with_another_verdict_than_expected_is_not_stored(cache, downloads, directory):
    expected, found = downloads.publish("1"), downloads.publish("2")
    with pytest.raises(VerdictError, match=f"expected verdict {expected} with version 2 .* has {found}"):
        cache.get("2", projects.PUBLIC, verdict_id=expected)
    assert entries(directory) == set()


def test_a_number_that_was_registered_again_is_another_release(cache, downloads):
    first = cache.get("1", projects.PUBLIC, verdict_id=downloads.publish("1"))
    downloads.publish("2")
    downloads.releases["1"] = downloads.releases["2"]
    second = cache.get("1", projects.PUBLIC)
    assert second.verdict.id != first.verdict.id
    assert first.path.is_dir()


@pytest.mark.parametrize("verdict_id", ["", WAY_OUT, f"sha256:{WAY_OUT}"])
def test_a_verdict_id_that_is_not_a_digest_finds_nothing(cache, downloads, directory, verdict_id):
    downloads.publish("1")
    shutil.copytree(downloads.releases["1"], directory.parent / "elsewhere")
    assert cache.find(verdict_id, projects.PUBLIC) is None


def test_an_interrupted_download_leaves_nothing(cache, downloads, directory):
    with pytest.raises(RegistryError, match="no version 9"):
        cache.get("9", projects.PUBLIC)
    downloads.publish("1")
    with pytest.raises(KeyboardInterrupt), cache.downloaded("1"):
        raise KeyboardInterrupt
    assert entries(directory) == set()


def test_downloads_of_killed_processes_are_removed_later(cache, downloads, directory):
    killed, running = directory / ".incoming-killed", directory / ".incoming-running"
    for path in (killed, running):
        path.mkdir(parents=True)
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(killed, (long_ago, long_ago))
    cache.get("1", projects.PUBLIC, verdict_id=downloads.publish("1"))
    assert (killed.exists(), running.exists()) == (False, True)


def test_the_least_recently_used_release_is_deleted(cache, downloads, directory):
    begin = datetime.now(UTC)
    ids = [downloads.publish(number) for number in ("1", "2", "3")]
    for place, number in enumerate(("1", "2")):
        path = cache.get(number, projects.PUBLIC, verdict_id=ids[place]).path
        os.utime(path, ((begin - timedelta(hours=2 - place)).timestamp(),) * 2)
    assert cache.find(ids[0], projects.PUBLIC)
    cache.get("3", projects.PUBLIC, verdict_id=ids[2])
    assert entries(directory) == {name_of(ids[0]), name_of(ids[2])}


def test_an_added_release_is_moved_and_found(cache, downloads, directory):
    verdict_id = downloads.publish("1")
    with cache.downloaded("1") as release:
        added = cache.add(release, projects.PUBLIC)
        assert not release.exists()
    assert cache.find(verdict_id, projects.PUBLIC) == added
    assert cache.add(added.path, projects.PUBLIC) == added
    assert entries(directory) == {name_of(verdict_id)}
