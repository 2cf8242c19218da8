import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler import cli
from buckler.errors import BucklerError, VerdictError
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.envelope import open_payload, sign
from buckler.trust.public_keys import PublicKeys, TrustedKeys, public_pem

BIN = Path(sys.executable).parent


def test_a_key_pair_signs_and_verifies_and_only_its_owner_can_read_the_private_half(tmp_path):
    keys.generate_key_pair(tmp_path / "keys")
    key = keys.load_private_key(tmp_path / "keys" / "verdict.pem")
    public = keys.load_public_keys(tmp_path / "keys" / "verdict.pub")
    assert open_payload(sign({"a": 1}, key, payload_type="x"), public, payload_types=("x",)).payload == b'{"a":1}'
    assert stat.S_IMODE((tmp_path / "keys" / "verdict.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path):
    keys.generate_key_pair(tmp_path)
    before = (tmp_path / "verdict.pem").read_bytes()
    with pytest.raises(BucklerError, match="never overwritten"):
        keys.generate_key_pair(tmp_path)
    assert (tmp_path / "verdict.pem").read_bytes() == before


def test_the_projects_own_key_pair_is_created_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, created = keys.load_or_create_signing_key()
    again, created_again = keys.load_or_create_signing_key()
    assert (created, created_again) == (True, False)
    assert first.private_bytes_raw() == again.private_bytes_raw()


def test_a_missing_signing_key_named_by_the_setting_is_an_error_and_none_is_created(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUCKLER_SIGNING_KEY", "secrets/verdict.pem")
    with pytest.raises(BucklerError, match=r"no key secrets/verdict\.pem; BUCKLER_SIGNING_KEY names it: correct"):
        keys.load_or_create_signing_key()
    assert list(tmp_path.iterdir()) == []


def test_a_project_that_only_verifies_creates_no_key_pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(paths.KEYS)
    (paths.KEYS / "verdict.pem").unlink()
    with pytest.raises(BucklerError, match=r"verdict\.pub exists"):
        keys.load_or_create_signing_key()


def test_the_setting_names_the_public_key(tmp_path, monkeypatch):
    keys.generate_key_pair(tmp_path / "elsewhere")
    monkeypatch.setenv("BUCKLER_VERDICT_KEY", str(tmp_path / "elsewhere" / "verdict.pub"))
    assert keys.load_public_keys() == keys.load_public_keys(tmp_path / "elsewhere" / "verdict.pub")


def test_the_first_run_creates_a_pair_for_verdicts_and_another_for_promotions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.load_or_create_signing_key()
    trusted = keys.load_trusted_keys()
    assert trusted.verdict == PublicKeys.of(keys.load_signing_key().public_key())
    assert trusted.promotion == PublicKeys.of(keys.load_signing_key(keys.PROMOTIONS).public_key())
    assert trusted.verdict != trusted.promotion


def test_a_project_of_an_earlier_version_goes_on_with_its_verdict_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(paths.KEYS)
    keys.load_or_create_signing_key()
    assert sorted(path.name for path in paths.KEYS.iterdir()) == ["verdict.pem", "verdict.pub"]
    trusted = keys.load_trusted_keys()
    assert trusted.promotion == trusted.verdict
    assert trusted.promotion.contain(keys.load_signing_key(keys.PROMOTIONS).public_key())


PLACES = ("file", "variable", "private file", "private variable")


@pytest.mark.parametrize("verdict", PLACES)
@pytest.mark.parametrize("promotion", PLACES)
def test_a_promotion_key_in_any_place_means_that_the_verdict_key_verifies_no_promotion(
    tmp_path, monkeypatch, verdict, promotion
):
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(tmp_path / "made", keys.VERDICTS, keys.PROMOTIONS)
    made = [keys.load_public_keys(tmp_path / "made" / role.public_file) for role in (keys.VERDICTS, keys.PROMOTIONS)]
    paths.KEYS.mkdir(parents=True)
    for role, place in ((keys.VERDICTS, verdict), (keys.PROMOTIONS, promotion)):
        private = place.startswith("private")
        path = tmp_path / "made" / (role.private_file if private else role.public_file)
        if place.endswith("variable"):
            monkeypatch.setenv(role.signing_env if private else role.public_env, str(path))
        else:
            path.rename(paths.KEYS / path.name)
    assert keys.load_trusted_keys() == TrustedKeys(*made)


def test_a_promotion_key_that_a_variable_names_and_that_is_missing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(paths.KEYS)
    monkeypatch.setenv("BUCKLER_PROMOTION_KEY", "none/promotion.pub")
    with pytest.raises(BucklerError, match=r"no key none/promotion\.pub; BUCKLER_PROMOTION_KEY names it: correct"):
        keys.load_trusted_keys()


# --- who can read a private key, and what it belongs to


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A project with a pair for verdicts and one for promotions."""
    monkeypatch.chdir(tmp_path)
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)
    return paths.KEYS


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o777])
@pytest.mark.parametrize("role", [keys.VERDICTS, keys.PROMOTIONS])
def test_a_private_key_that_others_can_read_or_write_signs_nothing_until_that_is_corrected(made, role, mode):
    path = made / role.private_file
    path.chmod(mode)
    with pytest.raises(BucklerError, match=f"{path} has the mode {mode:04o}") as caught:
        keys.load_signing_key(role)
    subprocess.run(["sh", "-c", advised(caught)], check=True)
    assert keys.load_signing_key(role).public_key()


def test_a_mounted_secret_of_another_owner_may_be_readable_by_a_group(made, monkeypatch):
    path = made / "verdict.pem"
    path.chmod(0o440)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    assert keys.load_signing_key().public_key()
    path.chmod(0o444)
    with pytest.raises(BucklerError, match="has the mode 0444"):
        keys.load_signing_key()


@pytest.mark.parametrize("role", [keys.VERDICTS, keys.PROMOTIONS])
def test_a_public_half_of_another_key_is_reported_and_the_advice_replaces_it(made, tmp_path, role):
    keys.generate_key_pair(tmp_path / "other", role)
    (tmp_path / "other" / role.public_file).replace(made / role.public_file)
    with pytest.raises(BucklerError, match=rf"expected \S+{role.private_file} to be the private half") as caught:
        keys.load_signing_key(role)
    command = advised(caught)
    assert command.startswith("buckler keys public")
    subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})
    key = keys.load_signing_key(role)
    assert keys.load_public_keys(made / role.public_file) == PublicKeys.of(key.public_key())


@pytest.mark.parametrize("role", [keys.VERDICTS, keys.PROMOTIONS])
def test_a_variable_that_names_the_key_of_another_pair_is_reported(made, tmp_path, monkeypatch, role):
    keys.generate_key_pair(tmp_path / "other", role)
    monkeypatch.setenv(role.signing_env, str(tmp_path / "other" / role.private_file))
    with pytest.raises(BucklerError, match=f"{role.signing_env} and {role.public_env} must belong together"):
        keys.load_signing_key(role)
    monkeypatch.setenv(role.public_env, str(tmp_path / "other" / role.public_file))
    assert keys.load_signing_key(role).public_key()


def test_the_advice_about_a_missing_verdict_key_makes_one_beside_the_promotion_key(made):
    for name in (keys.PRIVATE_KEY_FILE, keys.PUBLIC_KEY_FILE):
        (made / name).unlink()
    with pytest.raises(BucklerError, match="there is no key") as caught:
        keys.load_trusted_keys()
    assert cli.main(advised(caught).split()[1:]) == 0
    assert keys.load_trusted_keys().verdict != keys.load_trusted_keys().promotion


def advised(caught):
    """Return the first command that an error names."""
    return re.search("`(.+?)`", str(caught.value)).group(1)


# --- several public keys


@pytest.fixture
def three(tmp_path):
    pairs = [Ed25519PrivateKey.generate() for _ in range(3)]
    path = tmp_path / "two.pub"
    path.write_bytes(b"".join(public_pem(key.public_key()) for key in pairs[:2]))
    return pairs, keys.load_public_keys(path)


def test_any_key_of_a_file_verifies_and_no_other(three):
    (old, new, stranger), public = three
    for key in (old, new):
        assert open_payload(sign({"a": 1}, key, payload_type="x"), public, payload_types=("x",)).payload == b'{"a":1}'
    with pytest.raises(VerdictError, match=f"expected a signature of key {public.ids[0]} or {public.ids[1]}"):
        open_payload(sign({"a": 1}, stranger, payload_type="x"), public, payload_types=("x",))


def test_a_signature_under_the_name_of_another_key_does_not_count(three):
    (_, new, stranger), public = three
    forged = sign({"a": 1}, stranger, payload_type="x")
    forged["signatures"] = [{**forged["signatures"][0], "keyid": each} for each in public.ids]
    with pytest.raises(VerdictError, match="does not match"):
        open_payload(forged, public, payload_types=("x",))
    valid = sign({"a": 1}, new, payload_type="x")
    valid["signatures"] = [forged["signatures"][0], *valid["signatures"]]  # one valid signature is enough
    assert open_payload(valid, public, payload_types=("x",)).payload == b'{"a":1}'


def test_a_set_is_identified_by_its_keys_in_any_order(three):
    (old, new, _), public = three
    assert public.id == PublicKeys.of(new.public_key(), old.public_key()).id != PublicKeys.of(old.public_key()).id
    assert PublicKeys.parse(public.pem, Path("two.pub")) == public
    assert public.joined(public) == public


@pytest.mark.parametrize("content", [b"", b"# a comment\n%b", b"%b-----BEGIN PUBLIC KEY-----\nAA", b"%bjunk"])
def test_a_file_with_anything_but_public_keys_is_rejected(three, tmp_path, content):
    (tmp_path / "bad.pub").write_bytes(content.replace(b"%b", three[1].pem))
    with pytest.raises(BucklerError, match=r"bad\.pub is not a public key"):
        keys.load_public_keys(tmp_path / "bad.pub")


def test_a_private_key_among_public_ones_is_rejected(three, tmp_path):
    (tmp_path / "bad.pub").write_bytes(three[1].pem + keys.private_pem(three[0][0]))
    with pytest.raises(BucklerError, match=r"bad\.pub"):
        keys.load_public_keys(tmp_path / "bad.pub")


@pytest.mark.parametrize("load", [keys.load_private_key, keys.load_public_keys])
def test_a_file_that_is_not_a_key_is_rejected(tmp_path, load):
    (tmp_path / "key").write_text("not a key")
    with pytest.raises(BucklerError, match="key"):
        load(tmp_path / "key")
