"""API keys in a real file: content, permissions, and reloading by a running service."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buckler.errors import BucklerError
from buckler.serving import api_keys
from buckler.serving.api_keys import KeyRing, Role


class Clock:
    """A clock that moves only when a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys/api.json"


def test_the_file_contains_no_part_of_the_key(path: Path):
    key, secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")
    content = path.read_text()
    assert secret.removeprefix(api_keys.PREFIX)[:8] not in content
    assert key.id in content
    assert key.id not in secret
    assert key.id not in key.sha256


def test_keys_have_256_bits_and_differ(path: Path):
    made = [api_keys.create(path, role=Role.PREDICT, name="same name") for _ in range(20)]
    assert len({secret for _, secret in made}) == len({key.id for key, _ in made}) == 20
    assert all(len(secret) == len(api_keys.PREFIX) + 43 for _, secret in made)  # 32 bytes in base64


def test_only_the_owner_can_read_the_file_whatever_the_umask(path: Path):
    before = os.umask(0)
    try:
        key, _ = api_keys.create(path, role=Role.PREDICT, name="ward-3")
        path.chmod(0o644)
        api_keys.revoke(path, key.id)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_created_concurrently_are_all_stored(path: Path):
    with ThreadPoolExecutor(8) as pool:
        names = [f"ward-{i}" for i in range(24)]
        list(pool.map(lambda name: api_keys.create(path, role=Role.PREDICT, name=name), names))
    assert sorted(key.name for key in api_keys.read(path)) == sorted(names)
    assert {file.name for file in path.parent.iterdir()} == {"api.json", ".api.json.lock"}


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    _, secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BucklerError, match=r"no space left on the disk"):
            api_keys.create(path, role=Role.PREDICT, name="ward-4")
    assert KeyRing(path).find(secret)
    assert {file.name for file in path.parent.iterdir()} == {"api.json", ".api.json.lock"}


@pytest.mark.parametrize("name", ["", "-x", "a" * 65, "two\nlines", "\x1b[31mred", "Stationsärztin"])
def test_an_unprintable_name_is_refused(path: Path, name: str):
    with pytest.raises(BucklerError, match="expected a name of 1 to 64"):
        api_keys.create(path, role=Role.PREDICT, name=name)
    assert not path.exists()


def test_a_key_is_found_until_it_is_revoked_and_its_entry_stays(path: Path):
    key, secret = api_keys.create(path, role=Role.OPERATE, name="prometheus")
    other, other_secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")
    assert KeyRing(path).find(secret) == key
    revoked = api_keys.revoke(path, key.id)
    assert KeyRing(path).find(secret) is None
    assert KeyRing(path).find(other_secret) == other
    assert api_keys.read(path) == (revoked, other)
    with pytest.raises(BucklerError, match="was already revoked at"):
        api_keys.revoke(path, key.id)
    with pytest.raises(BucklerError, match="no key 'nothing'; `buckler keys list` shows"):
        api_keys.revoke(path, "nothing")


def test_a_slightly_changed_key_is_not_found(path: Path):
    key, secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")
    ring = KeyRing(path)
    for guess in ("", secret[:-1], secret + "A", secret.swapcase(), key.sha256, key.id, "ü"):
        assert ring.find(guess) is None


def test_a_key_ring_sees_changes_a_second_later(path: Path):
    clock = Clock()
    ring = KeyRing(path, clock=clock)
    assert ring.find("anything") is None
    key, secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")
    clock.now += 1
    assert ring.find(secret) == key
    api_keys.revoke(path, key.id)
    clock.now += 1
    assert ring.find(secret) is None


def test_a_key_ring_checks_the_file_once_a_second_and_reads_it_only_after_a_change(path: Path, monkeypatch):
    clock = Clock()
    looks, reads = [], []
    monkeypatch.setattr(api_keys, "_state", lambda path, real=api_keys._state: looks.append(path) or real(path))
    monkeypatch.setattr(api_keys, "read", lambda path, real=api_keys.read: reads.append(path) or real(path))
    ring = KeyRing(path, clock=clock)
    for _ in range(30):
        ring.find("anything")
        clock.now += 0.1
    assert len(looks) == 3
    assert len(reads) <= 3
    api_keys.create(path, role=Role.PREDICT, name="ward-3")
    reads.clear()
    for _ in range(3):
        clock.now += 1
        ring.find("anything")
    assert len(reads) == 1


def no_json(path: Path) -> None:
    path.write_text("{")


def other_schema(path: Path) -> None:
    path.write_text('{"schema": 2, "keys": []}')


def unknown_role(path: Path) -> None:
    path.write_text(path.read_text().replace('"predict"', '"root"'))


def unknown_field(path: Path) -> None:
    path.write_text(path.read_text().replace('"name"', '"nome"'))


def cut_hash(path: Path) -> None:
    document = json.loads(path.read_text())
    document["keys"][0]["sha256"] = ""
    path.write_text(json.dumps(document))


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [no_json, other_schema, unknown_role, unknown_field, cut_hash, a_directory])
def test_no_key_of_a_damaged_file_is_valid_until_it_is_repaired(path: Path, harm, caplog):
    clock = Clock()
    key, secret = api_keys.create(path, role=Role.PREDICT, name="ward-3")
    good = path.read_text()
    ring = KeyRing(path, clock=clock)
    assert ring.find(secret) == key
    harm(path)
    for _ in range(3):
        clock.now += 1
        with pytest.raises(BucklerError) as caught:
            ring.find(secret)
    assert key.sha256 not in f"{caught.value}{caplog.text}"
    assert len(caplog.records) == 1
    if path.is_dir():
        path.rmdir()
    path.write_text(good)
    clock.now += 1
    assert ring.find(secret) == key


def test_a_secret_is_written_only_to_a_new_file(tmp_path: Path):
    api_keys.write_secret(tmp_path / "service.key", "bk_x")
    assert (tmp_path / "service.key").read_text() == "bk_x\n"
    assert stat.S_IMODE((tmp_path / "service.key").stat().st_mode) & 0o137 == 0
    with pytest.raises(BucklerError, match=r"cannot write the key to .*File exists"):
        api_keys.write_secret(tmp_path / "service.key", "bk_y")
