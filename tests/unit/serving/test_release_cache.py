"""Releases on disk: downloaded once, verified each time, whole or absent, and kept while somebody uses them."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from buckler.errors import DownloadError, RegistryError, VerdictError
from buckler.release import tracking
from buckler.serving import release_cache
from buckler.serving.assessment import RefusedError
from buckler.serving.release_cache import ABANDONED_SECONDS, LOCK_FILE, USED, ReleaseCache
from buckler.serving.version import Version
from buckler.state import paths
from buckler.trust.verdict import open_release
from tests import projects

NAME = "skin-lesion"
WAY_OUT = "../elsewhere"


class Downloads:
    """A registry in a directory; lists the downloads."""

    def __init__(self, directory: Path, model: str = NAME) -> None:
        self.model, self.keys = model, projects.KEYS
        self.directory = directory
        self.releases: dict[str, Path] = {}
        self.downloaded: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def publish(self, number: str) -> Version:
        """Build a release of its own for version ``number``."""
        root = projects.make_project(self.directory / number, weights=number.encode())
        verdict = projects.build(root, name=NAME)
        self.releases[number] = root / "models/release"
        return Version(NAME, number, verdict=verdict.id)

    def download(self, number: str, destination: Path) -> Path:
        self.downloaded.append(number)
        self.meanwhile()
        if number not in self.releases:
            raise RegistryError(f"no version {number}")
        return Path(shutil.copytree(self.releases[number], destination))


@pytest.fixture
def downloads(tmp_path):
    return Downloads(tmp_path / "registry")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(directory, downloads):
    return ReleaseCache(directory, downloads, keep=2)


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.name != LOCK_FILE and not path.name.startswith(USED)}


def name_of(version: Version) -> str:
    return version.verdict.replace(":", "-")


def path_of(cache: ReleaseCache, version: Version, **options: bool) -> Path:
    with cache.opened(version, **options) as release:
        return release.path


def test_a_registered_version_is_downloaded_from_a_real_registry(project, registry, directory):
    verdict = projects.build(project, name=registry)
    model = tracking.WritableRegistry(registry, projects.KEYS)
    run = tracking.start_run(registry, "test", {})
    uri = tracking.log_release(run, project / "models/release", labels=projects.LABELS, shape=(32, 32, 3))
    tracking.finish_run(run)
    number = model.register(uri, tags={}, description="")
    with ReleaseCache(directory, model, keep=1).opened(Version(registry, number, verdict=verdict.id)) as found:
        assert found.verdict == verdict
        assert open_release(found.path, projects.PUBLIC) == verdict
    assert entries(directory) == {found.path.name}


def test_a_release_is_downloaded_once(cache, downloads, directory):
    version = downloads.publish("1")
    assert path_of(cache, version) == path_of(cache, version)
    assert downloads.downloaded == ["1"]
    assert entries(directory) == {name_of(version)}


def test_a_fresh_download_shows_what_the_registry_contains_now(cache, downloads):
    version = downloads.publish("1")
    path_of(cache, version)
    (downloads.releases["1"] / "model/detector.json").write_text("{}")
    with cache.opened(version) as copy, cache.opened(version, fresh=True) as now:
        assert copy.authentic
        assert [reason.code for reason in now.reasons] == ["digest"]
    assert downloads.downloaded == ["1", "1"]


def test_users_that_download_at_the_same_time_all_succeed_and_store_one_copy(downloads, directory):
    version = downloads.publish("1")
    downloads.meanwhile = threading.Barrier(4).wait  # all of them are in a download at once

    def ask(_: int) -> Path:
        with ReleaseCache(directory, downloads, keep=2).opened(version) as release:
            assert release.require().id == version.verdict
            return release.path

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert downloads.downloaded == ["1"] * 4
    assert entries(directory) == {name_of(version)}


def test_a_download_that_stalls_holds_up_nobody_else(cache, downloads):
    stalled, other = downloads.publish("1"), downloads.publish("2")
    path_of(cache, other)
    begun, released = threading.Event(), threading.Event()

    def stall() -> None:
        begun.set()
        released.wait()

    downloads.meanwhile = stall
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(path_of, cache, stalled)
        begun.wait()
        try:
            assert pool.submit(path_of, cache, other).result(timeout=60).is_dir()
        finally:
            released.set()
        assert waiting.result().is_dir()


@pytest.mark.parametrize("reason", ["source", "unavailable"])
def test_a_release_that_cannot_be_downloaded_is_shown_with_the_reason(cache, downloads, directory, reason):
    version = downloads.publish("1")

    def fail() -> None:
        raise DownloadError(reason, "no")

    downloads.meanwhile = fail
    with cache.opened(version) as release:
        assert [found.code for found in release.reasons] == [reason]
        assert not release.authentic
    assert entries(directory) == set()


def test_an_intact_copy_is_lent_without_a_download(cache, downloads):
    version = downloads.publish("1")
    path_of(cache, version)
    with cache.lent(version.verdict) as copy:
        assert copy is not None
        assert copy.require().id == version.verdict
    (copy.path / "model/detector.json").write_text("{}")
    with cache.lent(version.verdict) as copy:
        assert copy is None
    assert downloads.downloaded == ["1"]


def test_a_damaged_copy_is_downloaded_again(cache, downloads):
    version = downloads.publish("1")
    (path_of(cache, version) / "model/detector.json").write_text("{}")
    assert cache.find(version.verdict) is None
    with cache.opened(version) as release:
        assert open_release(release.path, projects.PUBLIC).id == version.verdict
    assert downloads.downloaded == ["1", "1"]


def test_a_release_that_fails_verification_is_shown_with_its_reasons_and_not_stored(cache, downloads, directory):
    version = downloads.publish("1")
    (downloads.releases["1"] / "model/detector.json").write_text("{}")
    with cache.opened(version) as release:
        assert [reason.code for reason in release.reasons] == ["digest"]
        with pytest.raises(RefusedError, match="differ from the digests"):
            release.require()
    with pytest.raises(RefusedError, match="differ from the digests"):
        cache.add(downloads.releases["1"])
    assert entries(directory) == set()


def test_a_release_of_another_model_is_not_stored(tmp_path, directory, downloads):
    downloads.publish("1")
    lungs = Downloads(tmp_path, "lungs")
    lungs.releases.update(downloads.releases)
    with ReleaseCache(directory, lungs).opened(Version("lungs", "1")) as release:
        assert [reason.code for reason in release.reasons] == ["other_model"]
    assert entries(directory) == set()


def test_a_number_that_was_registered_again_is_another_release(cache, downloads):
    first = downloads.publish("1")
    path = path_of(cache, first)
    again = downloads.publish("2")
    downloads.releases["1"] = downloads.releases["2"]
    assert path_of(cache, Version(NAME, "1", verdict=again.verdict)) != path
    assert path.is_dir()


@pytest.mark.parametrize("verdict_id", ["", WAY_OUT, f"sha256:{WAY_OUT}"])
def test_a_verdict_id_that_is_not_a_digest_finds_nothing(cache, downloads, directory, verdict_id):
    downloads.publish("1")
    shutil.copytree(downloads.releases["1"], directory.parent / "elsewhere")
    assert cache.find(verdict_id) is None


def test_an_interrupted_download_leaves_nothing(cache, downloads, directory):
    with pytest.raises(RegistryError, match="no version 9"), cache.opened(Version(NAME, "9")):
        pass
    version = downloads.publish("1")
    with pytest.raises(KeyboardInterrupt), cache.opened(version, store=False):
        raise KeyboardInterrupt
    assert entries(directory) == set()


def test_downloads_of_killed_processes_are_removed_later(cache, downloads, directory):
    killed, running = directory / ".incoming-killed", directory / ".incoming-running"
    for path in (killed, running):
        path.mkdir(parents=True)
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(killed, (long_ago, long_ago))
    path_of(cache, downloads.publish("1"))
    assert (killed.exists(), running.exists()) == (False, True)


def test_the_least_recently_used_release_is_deleted(cache, downloads, directory):
    begin = datetime.now(UTC)
    first, second, third = (downloads.publish(number) for number in ("1", "2", "3"))
    for place, version in enumerate((first, second)):
        os.utime(path_of(cache, version), ((begin - timedelta(hours=2 - place)).timestamp(),) * 2)
    assert cache.find(first.verdict)
    path_of(cache, third)
    assert entries(directory) == {name_of(first), name_of(third)}
    assert not (directory / f"{USED}{name_of(second)}").exists()


def test_a_release_in_use_is_kept_until_its_last_user_ends(cache, downloads, directory):
    versions = [downloads.publish(number) for number in ("1", "2", "3", "4")]
    with cache.opened(versions[0]) as held:
        long_ago = time.time() - ABANDONED_SECONDS
        os.utime(held.path, (long_ago, long_ago))
        for version in versions[1:]:
            path_of(cache, version)
        assert open_release(held.path, projects.PUBLIC).id == versions[0].verdict
        assert entries(directory) == {name_of(versions[0]), *map(name_of, versions[2:])}
    path_of(cache, versions[1])
    assert name_of(versions[0]) not in entries(directory)


def test_an_added_release_is_moved_and_found(cache, downloads, directory):
    version = downloads.publish("1")
    with cache.opened(version, store=False) as release:
        added = cache.add(release.path)
        assert not release.path.exists()
    assert cache.find(version.verdict) == added
    assert cache.add(added.path) == added
    assert entries(directory) == {name_of(version)}


def test_what_a_service_reports_must_be_what_the_registry_contains(project, downloads):
    version, other = downloads.publish("1"), downloads.publish("2")
    card = {"model": {"version": "1"}, "verdict": {"id": version.verdict}}
    with release_cache.reported(card, downloads) as release:
        assert release.require().id == version.verdict
    card["verdict"]["id"] = other.verdict
    with (
        pytest.raises(VerdictError, match=f"expected verdict {other.verdict} .* the registry has {version.verdict}"),
        release_cache.reported(card, downloads),
    ):
        pass


def test_a_project_that_cannot_be_written_gets_a_temporary_cache(project, downloads):
    version = downloads.publish("1")
    paths.STATE.mkdir(exist_ok=True)
    paths.DOWNLOADS.touch()  # a file instead of the directory
    with release_cache.shared(downloads) as cache, cache.opened(version) as release:
        assert release.require().id == version.verdict
    assert not release.path.exists()
