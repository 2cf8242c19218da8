"""The follower with a source that changes while it is read, or fails unexpectedly."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from buckler.errors import VerdictError
from buckler.serving.version import Version
from buckler.trust import keys
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings


class Source:
    """Names the entry in ``named``; its releases cannot be loaded."""

    promotes = False

    def __init__(self) -> None:
        self.named, self.tries = Version("skin-lesion", "1"), 0
        self.meanwhile = lambda: None
        self.error: Exception = VerdictError("digest", "changed")

    def look(self) -> Version:
        if isinstance(self.named, Exception):
            raise self.named
        return self.named

    @contextmanager
    def fetched(self, *_: object):
        self.tries += 1
        self.meanwhile()
        raise self.error
        yield

    def keep(self, *_: object) -> None:
        return None


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def following(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follower:
    keys.generate_key_pair(tmp_path)
    monkeypatch.setenv(keys.VERDICT_KEY_ENV, str(tmp_path / keys.PUBLIC_KEY_FILE))
    return Follower(Settings(), source, ModelSlot())


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("buckler_model_refused_total", {"reason": reason}) or 0


def test_a_release_that_changes_while_it_is_read_is_read_again_and_not_refused(source, following):
    before = refused("digest")

    def replaced() -> None:
        source.named, source.meanwhile = Version("skin-lesion", "2"), lambda: None

    source.meanwhile = replaced
    following.check()
    assert (source.tries, refused("digest")) == (1, before)
    following.check()
    following.check()
    assert (source.tries, refused("digest")) == (2, before + 1)


def test_a_new_key_justifies_another_attempt(source, following, tmp_path, monkeypatch):
    following.check()
    following.check()
    assert source.tries == 1
    keys.generate_key_pair(tmp_path / "new")
    monkeypatch.setenv(keys.VERDICT_KEY_ENV, str(tmp_path / "new" / keys.PUBLIC_KEY_FILE))
    following.check()
    assert source.tries == 2


def test_an_unexpected_error_is_logged_with_its_traceback_and_nothing_stops(source, following, caplog):
    source.error, before = RuntimeError("kernel"), refused("unavailable")
    following.check()
    assert refused("unavailable") == before + 1
    assert "Traceback" in caplog.text


def test_a_failing_source_is_reported_once_and_followed_again_later(source, following, caplog):
    here, source.named = source.named, RuntimeError("not even one of ours")
    for _ in range(3):
        assert following.check() is source.named
    assert caplog.text.count("cannot find out which release is to serve") == 1
    source.named = here
    assert following.check() is None
    assert source.tries == 1
