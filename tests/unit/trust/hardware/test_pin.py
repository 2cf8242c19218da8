import os
from pathlib import Path

import pytest

from buckler.errors import BucklerError
from buckler.state import paths
from buckler.trust.hardware import pin


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [b"1234", b"1234\n", b"1234\r\n"])
def test_the_pin_is_the_line_of_its_file(tmp_path, content):
    (tmp_path / "pin").write_bytes(content)
    assert pin.read(tmp_path / "pin") == "1234"


@pytest.mark.parametrize("content", [b"", b"\n", b"12\n34\n", b"12\xff34", b"12\x0034", b"secret" * 100])
def test_what_is_not_a_pin_is_refused_and_not_repeated(tmp_path, content):
    (tmp_path / "pin").write_bytes(content)
    with pytest.raises(BucklerError, match="one line of text") as caught:
        pin.read(tmp_path / "pin")
    assert "12" not in str(caught.value).replace(str(tmp_path), "")
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BucklerError, match=r"absent: No such file"):
        pin.read(tmp_path / "absent")


def tried(token: str, file: Path) -> str:
    """Return the PIN that may be tried."""
    with pin.attempt(token, file) as found:
        return found


def test_a_refused_pin_stays_refused_until_its_file_is_written_again(tmp_path):
    file = tmp_path / "pin"
    file.write_text("1234")
    assert tried("token", file) == "1234"
    pin.refuse("token", file)
    with pytest.raises(BucklerError, match="not tried again"):
        tried("token", file)
    assert tried("another token", file) == "1234"
    file.write_text("12345")
    assert tried("token", file) == "12345"


def test_another_process_knows_of_the_refusal_and_the_disk_has_no_pin(tmp_path, monkeypatch):
    file = tmp_path / "pin"
    file.write_text("47114711")
    pin.refuse("token", file)
    monkeypatch.setattr(pin, "_refused", {})
    with pytest.raises(BucklerError, match="not tried again"):
        tried("token", file)
    assert b"4711" not in b"".join(stored.read_bytes() for stored in paths.REFUSED_PINS.iterdir())


def test_a_process_that_cannot_write_the_disk_remembers_the_refusal_itself(tmp_path):
    paths.STATE.write_text("a file where the directory should be")
    file = tmp_path / "pin"
    file.write_text("1234")
    assert tried("token of a full disk", file) == "1234"
    pin.refuse("token of a full disk", file)
    with pytest.raises(BucklerError, match="not tried again"):
        tried("token of a full disk", file)
    os.utime(file, ns=(1, 1))
    assert tried("token of a full disk", file) == "1234"
