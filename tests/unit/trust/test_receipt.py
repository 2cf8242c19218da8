import base64
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler import cli
from buckler.errors import BucklerError, ReceiptError
from buckler.state import paths
from buckler.trust import digests, keys
from buckler.trust import receipt as receipts
from buckler.trust.document import PAYLOAD_TYPE
from buckler.trust.envelope import sign
from buckler.trust.public_keys import PublicKeys

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PublicKeys.of(KEY.public_key())
PICTURE = b"\xff\xd8\xff a picture"
MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
MODEL = f"sha256:{'5d' * 32}"
ANSWER = {
    "request_id": "5b6f0c1d9d3b4e6fb0a3a1f2c4d5e6f7",
    "label": "benign",
    "probabilities": {"benign": 0.9300000071525574, "malignant": 1e-07},
    "decision": "accept",
    "reasons": [],
    "detector": {"score": 0.4, "threshold": 2.1, "verdict": "clean"},
    "model": {"name": "skin-lesion", "version": "3", "digest": MODEL, "verdict": f"sha256:{'7d' * 32}"},
}


def issue(image: Path, key: Ed25519PrivateKey = KEY) -> dict[str, object]:
    audit = (17, f"sha256:{'ab' * 32}")
    return receipts.issue(ANSWER, key, input_digest=digests.file_digest(image), moment=MOMENT, audit=audit)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "picture.jpg").write_bytes(PICTURE)
    return tmp_path / "picture.jpg"


@pytest.fixture
def answer(tmp_path: Path, image: Path) -> Path:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({**ANSWER, "receipt": issue(image)}))
    return path


def refusal(path: Path, image: Path, **options: object) -> str:
    with pytest.raises(ReceiptError) as caught:
        receipts.verify(path, image, PUBLIC, **options)
    return str(caught.value)


def test_a_receipt_names_answer_picture_time_and_audit_line(answer, image):
    receipt = receipts.verify(answer, image, PUBLIC, model_digest=MODEL)
    assert receipt.answer == ANSWER
    assert receipt.input == digests.file_digest(image)
    assert receipt.issued_at == MOMENT
    assert receipt.audit == receipts.AuditLine(17, f"sha256:{'ab' * 32}")


def test_a_receipt_without_its_answer_is_verified(tmp_path, image):
    (tmp_path / "receipt.json").write_text(json.dumps(issue(image)))
    assert receipts.verify(tmp_path / "receipt.json", image, PUBLIC).model_digest == MODEL


def test_another_picture_another_model_and_another_key_are_refused(answer, image, tmp_path):
    (tmp_path / "other.jpg").write_bytes(PICTURE + b"\0")
    assert "the receipt is about a picture sha256:" in refusal(answer, tmp_path / "other.jpg")
    assert f"the receipt names {MODEL}" in refusal(answer, image, model_digest=f"sha256:{'00' * 32}")
    answer.write_text(json.dumps(issue(image, Ed25519PrivateKey.generate())))
    assert f"expected a signature of key {PUBLIC.id}" in refusal(answer, image)


def test_an_answer_that_was_changed_beside_its_receipt_is_refused_by_field(answer, image):
    content = json.loads(answer.read_text())
    content["label"] = "malignant"
    answer.write_text(json.dumps(content))
    assert "['label']" in refusal(answer, image)


def test_an_answer_without_a_receipt_says_how_to_get_one(answer, image):
    answer.write_text(json.dumps(ANSWER))
    assert "X-Buckler-Receipt: ed25519" in refusal(answer, image)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_payload_or_signature_is_refused(image, tmp_path, position, bit):
    envelope = issue(image)
    text = envelope["payload"] + envelope["signatures"][0]["sig"]
    changed = bytearray(text.encode())
    changed[position % len(changed)] ^= 1 << bit
    (tmp_path / "receipt.json").write_text(
        json.dumps(
            {
                **envelope,
                "payload": changed[: len(envelope["payload"])].decode("latin-1"),
                "signatures": [
                    {**envelope["signatures"][0], "sig": changed[len(envelope["payload"]) :].decode("latin-1")}
                ],
            }
        )
    )
    refusal(tmp_path / "receipt.json", image)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"receipt": 1}', b'{"payload": 1}', b'{"receipt": null}']
)
def test_a_file_without_a_receipt_is_rejected(tmp_path, image, content):
    (tmp_path / "receipt.json").write_bytes(content)
    assert "receipt.json" in refusal(tmp_path / "receipt.json", image)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answer", {"model": ANSWER["model"]}),
        ("answer", {"label": "benign", "decision": "accept", "model": {"name": "skin-lesion"}}),
        ("answer", {}),
        ("issued_at", "yesterday"),
        ("audit", [1]),
    ],
)
def test_a_signed_receipt_of_another_form_is_refused(tmp_path, image, field, value):
    statement = json.loads(base64.b64decode(issue(image)["payload"]))
    statement["predicate"][field] = value
    (tmp_path / "receipt.json").write_text(json.dumps(sign(statement, KEY, payload_type=PAYLOAD_TYPE)))
    assert f"the signed receipt: predicate is malformed: {field}" in refusal(tmp_path / "receipt.json", image)


# --- keys


def test_a_service_without_a_receipt_key_signs_none_and_a_named_key_must_exist(project):
    assert receipts.load_key(None) is None
    with pytest.raises(
        BucklerError, match=r"no key secrets/receipts\.pem; expected the path of a key in BUCKLER_RECEIPT_KEY"
    ):
        receipts.load_key("secrets/receipts.pem")


def test_the_projects_own_key_is_found(project):
    receipts.generate_key_pair(paths.KEYS)
    key = receipts.load_key(None)
    assert PublicKeys.of(key.public_key()).pem == (paths.KEYS / "receipts.pub").read_bytes()
    assert stat.S_IMODE((paths.KEYS / "receipts.pem").stat().st_mode) == 0o600


def test_the_projects_own_key_needs_its_own_public_half(project):
    receipts.generate_key_pair(paths.KEYS)
    receipts.generate_key_pair(project / "other")
    (project / "other/receipts.pub").replace(paths.KEYS / "receipts.pub")
    with pytest.raises(BucklerError, match=r"expected \S+receipts\.pem to be the private half of a key in"):
        receipts.load_key(None)


@pytest.mark.parametrize(("file", "signs"), [("verdict.pem", "verdicts"), ("promotion.pem", "promotions")])
def test_a_key_of_another_role_is_rejected_as_a_receipt_key(project, file, signs):
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)
    with pytest.raises(BucklerError, match=f"signs {signs}, which no service may have"):
        receipts.load_key(str(paths.KEYS / file))


# --- the commands


def test_receipt_keys_are_created_once_beside_the_verdict_keys(project, capsys):
    assert cli.main(["keys", "init", "--for", "receipts"]) == 0
    assert "give it to every client" in capsys.readouterr().out
    assert sorted(path.name for path in paths.KEYS.iterdir()) == ["receipts.pem", "receipts.pub"]
    assert cli.main(["keys", "init"]) == 0
    assert cli.main(["keys", "init", "--for", "receipts"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_verify_receipt_exits_0_and_prints_one_line_about_the_answer(answer, image, tmp_path, capsys):
    (tmp_path / "receipts.pub").write_bytes(PUBLIC.pem)
    command = ["verify-receipt", str(answer), "--image", str(image), "--key", str(tmp_path / "receipts.pub")]
    assert cli.main(command) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert output.startswith(f"valid: benign (accept) for {digests.file_digest(image)}, by skin-lesion version 3")
    assert f"line 17 (sha256:{'ab' * 32}) of the audit log" in output
    assert cli.main([*command, "--model-digest", MODEL]) == 0


def test_verify_receipt_exits_1_on_a_mismatch_and_2_on_an_unreadable_file(answer, image, tmp_path, capsys):
    key = tmp_path / "receipts.pub"
    key.write_bytes(PUBLIC.pem)

    def run(answer: Path, image: Path, key: Path) -> tuple[int, str]:
        code = cli.main(["verify-receipt", str(answer), "--image", str(image), "--key", str(key)])
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return code, error

    assert run(answer, key, key)[0] == 1
    assert run(image, image, key)[0] == 1
    code, error = run(answer, tmp_path / "gone.jpg", key)
    assert (code, "gone.jpg" in error) == (2, True)
    assert run(tmp_path / "gone.json", image, key)[0] == 2
    code, error = run(answer, image, tmp_path / "gone.pub")
    assert (code, "expected the path of a key in --key" in error) == (2, True)
    assert run(answer, image, answer)[0] == 2
