import stat

import pytest

from buckler.errors import BucklerError
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.envelope import open_payload, sign


def test_a_key_pair_signs_and_verifies_and_only_its_owner_can_read_the_private_half(tmp_path):
    keys.generate_key_pair(tmp_path / "keys")
    key = keys.load_private_key(tmp_path / "keys" / "verdict.pem")
    public = keys.load_public_key(tmp_path / "keys" / "verdict.pub")
    assert open_payload(sign({"a": 1}, key, payload_type="x"), public, payload_types=("x",)) == ("x", b'{"a":1}')
    assert stat.S_IMODE((tmp_path / "keys" / "verdict.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path):
    keys.generate_key_pair(tmp_path)
    before = (tmp_path / "verdict.pem").read_bytes()
    with pytest.raises(BucklerError, match="never overwritten"):
        keys.generate_key_pair(tmp_path)
    assert (tmp_path / "verdict.pem").read_bytes() == before


def test_the_projects_own_key_pair_is_created_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, created = keys.load_or_create_private_key()
    again, created_again = keys.load_or_create_private_key()
    assert (created, created_again) == (True, False)
    assert first.private_bytes_raw() == again.private_bytes_raw()


def test_a_missing_signing_key_named_by_the_setting_is_an_error_and_none_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUCKLER_SIGNING_KEY", "secrets/verdict.pem")
    with pytest.raises(BucklerError, match=r"secrets/verdict\.pem.*buckler keys init"):
        keys.load_or_create_private_key()
    assert list(tmp_path.iterdir()) == []


def test_a_project_that_only_verifies_creates_no_key_pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(paths.KEYS)
    (paths.KEYS / "verdict.pem").unlink()
    with pytest.raises(BucklerError, match=r"verdict\.pub exists"):
        keys.load_or_create_private_key()


def test_the_setting_names_the_public_key(tmp_path, monkeypatch):
    keys.generate_key_pair(tmp_path / "elsewhere")
    monkeypatch.setenv("BUCKLER_VERDICT_KEY", str(tmp_path / "elsewhere" / "verdict.pub"))
    assert keys.load_public_key().public_bytes_raw()


@pytest.mark.parametrize("load", [keys.load_private_key, keys.load_public_key])
def test_a_file_that_is_not_a_key_is_rejected(tmp_path, load):
    (tmp_path / "key").write_text("not a key")
    with pytest.raises(BucklerError, match="key"):
        load(tmp_path / "key")
