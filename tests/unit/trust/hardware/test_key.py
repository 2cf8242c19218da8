"""With a real token of SoftHSM."""

import base64
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from buckler.errors import BucklerError
from buckler.trust import hardware
from buckler.trust.envelope import open_payload, pre_authentication_encoding, sign
from buckler.trust.hardware import session
from buckler.trust.hardware.key import ED25519, point_of
from buckler.trust.hardware.uri import parse
from buckler.trust.public_keys import PublicKeys
from tests.softhsm import CONFIGURATION, PIN, SoftHSM, module

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def token(softhsm: SoftHSM, request: pytest.FixtureRequest) -> str:
    """The label of a token that only this test uses."""
    label = f"t{abs(hash(request.node.nodeid)):x}"[:20]
    softhsm.add_token(label)
    return label


@pytest.fixture
def uri(softhsm: SoftHSM, token: str) -> str:
    """The URI of a key that does not exist yet."""
    return softhsm.uri(token)


def objects(uri: str, work):
    """Return ``work(session)`` with a session that may write."""
    return session.module_of(parse(uri)).use(parse(uri), work, writes=True)


def generate(uri: str, label: str, **private) -> None:
    """Create an Ed25519 pair as another tool might."""

    def work(opened):
        curve = opened.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519}, local=True)
        curve.generate_keypair(
            store=True,
            label=label,
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            private_template={Attribute[name]: value for name, value in private.items()},
        )

    objects(uri, work)


def fails(uri: str) -> str:
    """Return the one error that loading the key gives."""
    with pytest.raises(BucklerError) as caught:
        hardware.load_key(uri)
    assert PIN not in str(caught.value)
    return str(caught.value)


def in_a_new_process(uri: str, code: str = "print(load_key(uri).sign(b'x').hex())", **environment: str) -> str:
    """Return what the code prints, or its last line of errors."""
    program = f"import sys; uri = sys.argv[1]; from buckler.trust.hardware import load_key; {code}"
    variables = os.environ | {"PYTHONPATH": f"{ROOT}/src"} | environment
    command = [sys.executable, "-c", program, uri]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables, check=False)
    assert PIN not in result.stdout + result.stderr
    return (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()[-1]


def test_a_document_that_the_token_signed_is_verified_without_it(uri):
    key = hardware.create_key(uri)
    public = key.public_key()
    envelope = sign({"a": 1}, key, payload_type="x")
    assert open_payload(envelope, PublicKeys.of(public), payload_types=("x",)).payload == b'{"a":1}'
    # By other code than ours, from the raw public key alone.
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    raw = Ed25519PublicKey.from_public_bytes(public.public_bytes_raw())
    raw.verify(signature, pre_authentication_encoding("x", b'{"a":1}'))


def test_a_key_is_the_same_in_every_process(uri):
    key = hardware.create_key(uri)
    key.public_key().verify(bytes.fromhex(in_a_new_process(uri)), b"x")


def test_the_private_key_cannot_leave_the_token(uri):
    hardware.create_key(uri)

    def extract(opened):
        (private,) = opened.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
        assert not private[Attribute.EXTRACTABLE]
        assert private[Attribute.SENSITIVE]
        with pytest.raises(pkcs11.AttributeSensitive):
            private[Attribute.VALUE]
        with pytest.raises(pkcs11.AttributeReadOnly):
            private[Attribute.EXTRACTABLE] = True
        with pytest.raises(pkcs11.AttributeReadOnly):
            private[Attribute.SENSITIVE] = False
        wrapping = opened.generate_key(KeyType.AES, 256)
        with pytest.raises(pkcs11.KeyUnextractable):
            wrapping.wrap_key(private)

    objects(uri, extract)


def test_a_key_is_never_overwritten(uri):
    before = hardware.create_key(uri).public_key().public_bytes_raw()
    with pytest.raises(BucklerError, match="never overwritten"):
        hardware.create_key(uri)
    assert hardware.load_key(uri).public_key().public_bytes_raw() == before


def test_keys_of_one_token_are_told_apart_and_share_its_login(softhsm, token):
    verdicts, promotions = (hardware.create_key(softhsm.uri(token, label)) for label in ("verdict", "promotion"))
    assert verdicts.public_key() != promotions.public_key()
    for key in (verdicts, promotions, verdicts):
        key.public_key().verify(key.sign(b"x"), b"x")


def test_a_key_can_be_named_by_its_id_and_its_token_by_the_serial_number(softhsm, uri, token):
    created = hardware.create_key(uri.replace("?", ";id=%01%FF?"))
    (serial,) = (each.serial.decode() for each in pkcs11.lib(str(module().resolve())).get_tokens(token))
    other = uri.replace(f"token={token};object=promotion", f"serial={serial};id=%01%FF")
    assert hardware.load_key(other).public_key() == created.public_key()


def test_neither_the_key_nor_its_log_tells_the_pin(uri, caplog):
    caplog.set_level(logging.DEBUG)
    key = hardware.create_key(uri)
    key.sign(b"x")
    assert "promotion" in repr(key)
    assert PIN not in repr(key) + repr(vars(key)) + caplog.text


@pytest.mark.parametrize("value", ["PKCS11:token=t", '"pkcs11:token=t', " pkcs11:token=t"])
def test_a_uri_with_a_pin_is_not_taken_for_a_path_which_an_error_would_repeat(value):
    assert hardware.is_uri(value)
    with pytest.raises(BucklerError) as caught:
        hardware.load_key(f"{value};object=k?pin-value={PIN}")
    assert PIN not in str(caught.value)
    assert not hardware.is_uri("/keys/pkcs11:token")


@pytest.mark.slow
def test_a_process_that_has_loaded_tensorflow_signs(uri):
    """TensorFlow's functions of the same names as OpenSSL's crashed the module at the log-in."""
    key = hardware.create_key(uri)
    code = "from buckler.models.backend import tf; tf.constant(1); print(load_key(uri).sign(b'x').hex())"
    key.public_key().verify(bytes.fromhex(in_a_new_process(uri, code)), b"x")


class TestLostSessions:
    def test_a_session_that_the_token_closed_is_opened_again(self, uri):
        key = hardware.create_key(uri)
        for opened in session.module_of(parse(uri))._sessions.values():
            opened.close()
        key.public_key().verify(key.sign(b"x"), b"x")

    def test_a_token_that_logged_out_hides_its_keys_and_is_asked_again(self, uri):
        key = hardware.create_key(uri)
        module = session.module_of(parse(uri))
        other = module._token(parse(uri)).open()
        next(iter(module._sessions.values())).close()  # logs the process out
        module._sessions = dict.fromkeys(module._sessions, other)
        key.public_key().verify(key.sign(b"x"), b"x")

    def test_a_library_that_started_again_is_noticed(self, uri):
        key = hardware.create_key(uri)
        pkcs11.lib(str(module().resolve())).finalize()
        key.public_key().verify(key.sign(b"x"), b"x")

    def test_a_token_that_is_away_is_one_error_and_the_key_signs_when_it_is_back(self, uri, softhsm):
        key = hardware.create_key(uri)
        with softhsm.away(), pytest.raises(BucklerError, match="found none; is it connected"):
            key.sign(b"x")
        key.public_key().verify(key.sign(b"x"), b"x")

    def test_a_forked_process_signs_and_its_parent_goes_on(self, uri):
        key = hardware.create_key(uri)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, key.sign(b"child"))
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            signature = pipe.read()
        os.waitpid(child, 0)
        key.public_key().verify(signature, b"child")
        key.public_key().verify(key.sign(b"parent"), b"parent")

    def test_threads_sign_at_the_same_time(self, uri):
        key = hardware.create_key(uri)
        signatures: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: signatures.extend(key.sign(b"x") for _ in range(20))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(signatures) == 160
        for signature in signatures:
            key.public_key().verify(signature, b"x")


def without_mechanism(softhsm: SoftHSM, directory: Path, mechanism: str) -> Path:
    """Return another configuration of the same tokens."""
    configuration = directory / "softhsm2.conf"
    # SoftHSM 2.6 ignores the first name of the list.
    configuration.write_text(f"{softhsm.configuration.read_text()}slots.mechanisms = -CKM_RSA_PKCS,{mechanism}\n")
    return configuration


class TestErrors:
    def test_a_missing_module(self, uri):
        assert "cannot load the PKCS#11 module /no.so" in fails(uri.replace(f"{module()}", "/no.so"))

    def test_a_library_that_is_no_module(self, uri):
        (other,) = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line}
        assert f"cannot load the PKCS#11 module {other}" in fails(uri.replace(f"{module()}", other))

    def test_a_missing_token(self, uri, token):
        assert "expected a token with token='none'" in fails(uri.replace(f"token={token}", "token=none"))

    def test_two_tokens_of_one_name(self, softhsm, uri, token):
        softhsm.add_token(token)
        message = fails(uri)
        assert "found 2; add serial= of one of them" in message

    def test_a_missing_key(self, uri):
        assert "expected one private key with object='promotion'" in fails(uri)

    def test_two_keys_of_one_name(self, uri):
        generate(uri, "promotion")
        generate(uri, "promotion")
        assert "found 2; add id= to the URI" in fails(uri)

    def test_a_key_of_another_type(self, uri):
        objects(uri, lambda opened: opened.generate_keypair(KeyType.RSA, 1024, store=True, label="promotion"))
        assert "expected an Ed25519 key with object='promotion' in the token, got RSA" in fails(uri)

    def test_a_key_that_may_leave_the_token(self, uri):
        generate(uri, "promotion", EXTRACTABLE=True)
        assert "may leave its token" in fails(uri)

    def test_a_key_whose_value_can_be_read(self, uri):
        generate(uri, "promotion", SENSITIVE=False)
        assert "may leave its token" in fails(uri)

    def test_a_key_that_may_not_sign(self, uri):
        generate(uri, "promotion", SIGN=False)
        assert "may not sign" in fails(uri)

    def test_a_key_that_asks_for_the_pin_each_time(self, uri):
        generate(uri, "promotion", ALWAYS_AUTHENTICATE=True)
        assert "asks for the PIN at each signature" in fails(uri)

    def test_a_private_key_without_its_public_one(self, uri):
        hardware.create_key(uri)
        objects(
            uri,
            lambda opened: [each.destroy() for each in opened.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})],
        )
        assert "expected one public key" in fails(uri)

    def test_a_public_key_of_the_same_name_that_another_put_there(self, uri):
        generate(uri, "other")
        hardware.create_key(uri)

        def exchange(opened):
            own, other = (
                next(opened.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: label}))
                for label in ("promotion", "other")
            )
            own.destroy()
            other[Attribute.LABEL] = "promotion"

        objects(uri, exchange)
        key = hardware.load_key(uri)
        with pytest.raises(BucklerError, match="not for the public key"):
            key.sign(b"x")

    def test_a_token_that_cannot_sign_so(self, uri, softhsm, tmp_path):
        hardware.create_key(uri)
        other = without_mechanism(softhsm, tmp_path, "CKM_EDDSA")
        assert "cannot sign with Ed25519 (CKM_EDDSA)" in in_a_new_process(uri, **{CONFIGURATION: str(other)})

    def test_a_token_that_cannot_create_such_a_key(self, uri, softhsm, tmp_path):
        other = without_mechanism(softhsm, tmp_path, "CKM_EC_EDWARDS_KEY_PAIR_GEN")
        code = "from buckler.trust.hardware import create_key; create_key(uri)"
        assert "cannot create Ed25519 keys" in in_a_new_process(uri, code, **{CONFIGURATION: str(other)})

    def test_python_pkcs11_is_not_installed(self, uri):
        message = in_a_new_process(uri, "sys.modules['pkcs11'] = None; load_key(uri)")
        assert "needs python-pkcs11" in message.replace("need ", "needs ")
        assert "extra pkcs11" in message


class TestWrongPin:
    @pytest.fixture
    def wrong(self, softhsm, token, uri):
        hardware.create_key(uri)
        session.module_of(parse(uri))._restart()  # a process that is logged in is not asked for the PIN again
        return softhsm.uri(token, pin="000000")

    def test_it_is_refused_and_not_tried_again_by_any_process(self, wrong):
        assert "refused the PIN in" in fails(wrong)
        assert "not tried again, because" in fails(wrong)
        assert "not tried again, because" in in_a_new_process(wrong)

    def test_of_processes_that_start_together_one_tries(self, wrong):
        with ThreadPoolExecutor(6) as threads:
            errors = list(threads.map(lambda _: in_a_new_process(wrong), range(6)))
        assert sum("write the right one into the file" in error for error in errors) == 1
        assert sum("which is not tried again" in error for error in errors) == 5

    @pytest.mark.parametrize(
        ("flag", "message"), [("USER_PIN_FINAL_TRY", "so none is tried"), ("USER_PIN_LOCKED", "locked")]
    )
    def test_none_is_tried_at_a_token_that_has_one_try_left_or_is_locked(self, softhsm, flag, message):
        class Token:  # SoftHSM never locks; a try would fail here, because there is no `open`
            flags, serial, label = pkcs11.TokenFlag[flag], b"1", "t"

        with pytest.raises(BucklerError, match=message):
            session._log_in(Token(), parse(softhsm.uri("t")), writes=False)

    def test_the_right_one_is_used_when_its_file_is_written(self, softhsm, token, wrong):
        fails(wrong)
        key = hardware.load_key(softhsm.uri(token))
        key.public_key().verify(key.sign(b"x"), b"x")

    def test_the_token_was_asked_only_once(self, wrong, softhsm, token):
        """The right PIN is not tried either while the file has not been written since the refusal."""
        fails(wrong)
        file = softhsm.root / f"pin-of-{token}"
        before = file.stat()
        file.write_text(f"{PIN}\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "not tried again" in fails(wrong)


def test_the_public_point_is_read_with_and_without_its_der_wrapper():
    point = bytes(range(32))
    assert point_of(point) == point_of(b"\x04\x20" + point) == point_of(b"\x03\x21\x00" + point) == point
    for other in (point[:-1], b"\x04\x21" + point, b"\x04\x41\x04" + point * 2):
        with pytest.raises(BucklerError, match="32 bytes"):
            point_of(other)


def test_the_curve_is_named_as_the_standard_says():
    assert pkcs11.util.ec.encode_named_curve_parameters("1.3.101.112") == ED25519
