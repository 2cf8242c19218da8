"""Weights are downloaded once, in whole, and no server makes the download wait without end."""

import hashlib
import re
import time
from contextlib import suppress

import pytest

from buckler.errors import ModelError
from buckler.models import pretrained
from buckler.models.pretrained import Download, download
from buckler.state import locks
from tests import blackholes

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name, seconds in {"ANSWER_SECONDS": 0.5, "SLOW_SECONDS": 1.5, "PROGRESS_SECONDS": 0.1}.items():
        monkeypatch.setattr(pretrained, name, seconds)
    return tmp_path


class Breaking(blackholes.Quiet):
    """Sends half of what is asked for and closes the connection; ``ranges``: what it was asked for."""

    ranges: list[str | None]

    def answer(self):
        asked = self.headers["Range"]
        self.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        rest = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(rest[: len(rest) if len(rest) <= len(CONTENT) // 4 else len(rest) // 2])


@pytest.fixture
def breaking():
    handler = type("Handler", (Breaking,), {"ranges": []})
    with blackholes.serving(handler) as url:
        yield url, handler


def test_a_file_is_downloaded_once(file_server, keras_home):
    address = file_server({"weights.h5": CONTENT})
    path = download(Download(f"{address}/weights.h5", MD5))
    assert path == keras_home / "models/weights.h5"
    assert path.read_bytes() == CONTENT
    assert download(Download("http://127.0.0.1:9/weights.h5", MD5)) == path


def test_a_broken_download_continues_where_it_stopped(breaking, capsys):
    url, handler = breaking
    assert download(Download(f"{url}/weights.h5", MD5)).read_bytes() == CONTENT
    assert handler.ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]
    assert "the connection ended after 0.5 MB of 1.0 MB; continuing the download at 0.5 MB" in capsys.readouterr().err


def test_the_next_run_continues_the_download_of_the_last(breaking, keras_home):
    url, handler = breaking
    (keras_home / "models").mkdir()
    (keras_home / "models/weights.h5.part").write_bytes(CONTENT[:-10])
    assert download(Download(f"{url}/weights.h5", MD5)).read_bytes() == CONTENT
    assert handler.ranges == [f"bytes={len(CONTENT) - 10}-"]
    assert not (keras_home / "models/weights.h5.part").exists()


def test_a_server_without_ranges_starts_again(file_server, keras_home):
    (keras_home / "models").mkdir()
    (keras_home / "models/weights.h5.part").write_bytes(b"start of another file")
    address = file_server({"weights.h5": CONTENT})
    assert download(Download(f"{address}/weights.h5", MD5)).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_dropped(breaking, keras_home):
    url, _ = breaking
    (keras_home / "models").mkdir()
    (keras_home / "models/weights.h5.part").write_bytes(CONTENT + b"more")
    assert download(Download(f"{url}/weights.h5", MD5)).read_bytes() == CONTENT


def test_a_file_with_another_digest_is_an_error_and_is_not_kept(file_server, keras_home):
    address = file_server({"weights.h5": b"tampered"})
    with pytest.raises(ModelError, match=r"cannot be downloaded .*expected a file with md5 0+, got md5 [0-9a-f]{32}"):
        download(Download(f"{address}/weights.h5", "0" * 32))
    assert not list((keras_home / "models").glob("weights*"))


def test_a_missing_file_is_an_error_with_the_next_step(file_server):
    with pytest.raises(ModelError, match=r"HTTP 404 .*set train\.weights to a local copy of that file"):
        download(Download(f"{file_server({})}/weights.h5", MD5))


@pytest.mark.parametrize("server", [blackholes.swallowing, blackholes.silent])
def test_a_server_behind_a_firewall_is_given_up(server):
    began = time.monotonic()
    with (
        server() as url,
        pytest.raises(ModelError, match=r"no answer within 0\.5 s\); allow access to it, or"),
    ):
        download(Download(f"{url}/weights.h5", MD5))
    assert time.monotonic() - began < 10


def test_a_server_that_sends_a_byte_at_a_time_is_given_up():
    began = time.monotonic()
    expected = re.escape("expected 256 KiB in 1.5 s, got ")
    with blackholes.trickling() as url, pytest.raises(ModelError, match=expected):
        download(Download(f"{url}/weights.h5", MD5))
    assert time.monotonic() - began < 30


def test_the_whole_download_has_a_limit(monkeypatch):
    monkeypatch.setattr(pretrained, "SLOW_SECONDS", 60)
    monkeypatch.setattr(pretrained, "TOTAL_SECONDS", 1)
    with blackholes.trickling() as url, pytest.raises(ModelError, match="expected the whole file in 1 s; "):
        download(Download(f"{url}/weights.h5", MD5))


def test_two_runs_do_not_download_at_once(keras_home):
    (keras_home / "models").mkdir()
    with (
        locks.exclusive_at_once(keras_home / "models/.weights.h5.lock"),
        pytest.raises(ModelError, match=r"another process downloads .*weights\.h5; wait until it ends"),
    ):
        download(Download("http://127.0.0.1:9/weights.h5", MD5))


def test_a_folder_that_cannot_be_written_is_named(keras_home):
    (keras_home / "models").write_text("a file")
    with pytest.raises(ModelError, match=r"cannot be stored in .*models: .*set KERAS_HOME to another folder"):
        download(Download("http://127.0.0.1:9/weights.h5", MD5))
