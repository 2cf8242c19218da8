"""What a follower makes of a source that changes under its hands, or breaks in a way that nobody foresaw."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from buckler.errors import VerdictError
from buckler.trust import keys
from services.classifier.releases.follower import Follower
from services.classifier.releases.slot import ModelSlot
from services.classifier.served import ReleaseEntry
from services.classifier.settings import Settings


class Source:
    """Names what it is told to; what it gives cannot be loaded."""

    def __init__(self) -> None:
        self.named, self.tries = ReleaseEntry("1"), 0
        self.meanwhile = lambda: None
        self.error: Exception = VerdictError("digest", "changed")

    def look(self) -> ReleaseEntry:
        if isinstance(self.named, Exception):
            raise self.named
        return self.named

    def admit(self, *_: object) -> None:
        return None

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


def test_what_was_read_half_old_and_half_new_is_no_refusal_but_read_again(source, following):
    before = refused("digest")

    def replaced() -> None:
        source.named, source.meanwhile = ReleaseEntry("2"), lambda: None

    source.meanwhile = replaced
    following.check()
    assert (source.tries, refused("digest")) == (1, before)
    following.check()
    following.check()
    assert (source.tries, refused("digest")) == (2, before + 1)


def test_a_key_that_was_replaced_is_a_reason_to_try_again(source, following, tmp_path, monkeypatch):
    following.check()
    following.check()
    assert source.tries == 1
    keys.generate_key_pair(tmp_path / "new")
    monkeypatch.setenv(keys.VERDICT_KEY_ENV, str(tmp_path / "new" / keys.PUBLIC_KEY_FILE))
    following.check()
    assert source.tries == 2


def test_an_error_that_nobody_foresaw_is_logged_whole_and_nothing_stops(source, following, caplog):
    source.error, before = RuntimeError("kernel"), refused("unavailable")
    following.check()
    assert refused("unavailable") == before + 1
    assert "Traceback" in caplog.text


def test_a_source_that_is_away_is_said_once_and_that_it_came_back_is_seen(source, following, caplog):
    here, source.named = source.named, RuntimeError("not even one of ours")
    for _ in range(3):
        assert following.check() is source.named
    assert caplog.text.count("cannot find out which release is to serve") == 1
    source.named = here
    assert following.check() is None
    assert source.tries == 1
