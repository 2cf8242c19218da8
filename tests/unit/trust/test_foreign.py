"""Programs that are not ours verify signature, statement and files of every document."""

import base64
import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import google.protobuf.json_format
import pytest
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from buckler import cli
from buckler.trust import keys
from buckler.trust.digests import checksum_list, file_digest
from buckler.trust.public_keys import public_pem
from tests import projects
from tests.absent import absent
from tests.unit.trust import signed
from tests.unit.trust.signed import KINDS

HOW_TO = Path(__file__).resolve().parents[3] / "docs/how-to/verify-a-verdict.md"


@pytest.fixture
def release(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release that the gate built, and the public key that its owner gives to strangers."""
    projects.build(project)
    (project / "verdict.pub").write_bytes(projects.PUBLIC.pem)
    monkeypatch.setenv(keys.VERDICT_KEY_ENV, str(project / "verdict.pub"))
    return project / "models/release"


@pytest.fixture(params=KINDS)
def envelope(request, release) -> dict:
    """An envelope of each kind; the verdict is that of the release."""
    if request.param == "verdict":
        return json.loads((release / "verdict.json").read_text())
    return signed.envelope_of(request.param)


def verified(envelope: dict) -> bytes:
    """Return the payload of an envelope that securesystemslib accepts."""
    found = Envelope.from_dict(copy.deepcopy(envelope))
    found.verify(
        [SSlibKey.from_crypto(projects.KEY.public_key(), keyid=envelope["signatures"][0]["keyid"])], threshold=1
    )
    return found.payload


def test_securesystemslib_verifies_every_kind_of_document(envelope):
    assert json.loads(verified(envelope))["_type"] == "https://in-toto.io/Statement/v1"


@pytest.mark.parametrize("part", ["payload", "payloadType", "sig"])
def test_securesystemslib_refuses_a_flipped_bit(envelope, part):
    holder = envelope["signatures"][0] if part == "sig" else envelope
    encoded = part != "payloadType"  # a bit of the content, not of its base64, which might end as no base64
    flipped = bytearray(base64.b64decode(holder[part]) if encoded else holder[part].encode())
    flipped[len(flipped) // 2] ^= 1
    holder[part] = (base64.b64encode(flipped) if encoded else flipped).decode()
    with pytest.raises(VerificationError):
        verified(envelope)


def test_in_toto_accepts_the_form_of_every_kind_of_statement(envelope):
    statement = google.protobuf.json_format.Parse(verified(envelope), statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()


def test_in_toto_refuses_a_statement_without_digests(envelope):
    statement = json.loads(verified(envelope))
    del statement["subject"][0]["digest"]
    parsed = google.protobuf.json_format.ParseDict(statement, statement_pb2.Statement())
    with pytest.raises(ValueError, match="At least one digest required"):
        Statement.copy_from_pb(parsed).validate()


def test_the_subjects_of_a_verdict_are_the_sha256_of_the_models_files(release):
    statement = json.loads(verified(json.loads((release / "verdict.json").read_text())))
    files = sorted(path for path in (release / "model").rglob("*") if path.is_file())
    assert {subject["name"]: f"sha256:{subject['digest']['sha256']}" for subject in statement["subject"]} == {
        path.relative_to(release).as_posix(): file_digest(path) for path in files
    }
    names = [subject["name"] for subject in statement["subject"]]
    assert names == sorted(names)


# --- sha256sum


def sha256sum(release: Path, checksums: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sha256sum", "--check", "--strict"], cwd=release, input=checksums, capture_output=True, text=True, check=False
    )


def test_sha256sum_takes_the_list_that_verify_writes(release, tmp_path, capsys):
    assert cli.main(["verify", str(release), "--checksums", str(tmp_path / "SHA256SUMS")]) == 0
    assert f"{release} is valid" in capsys.readouterr().out
    checksums = (tmp_path / "SHA256SUMS").read_text()
    checked = sha256sum(release, checksums)
    assert checked.returncode == 0, checked.stderr
    files = [path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()]
    assert sorted(checked.stdout.splitlines()) == sorted(f"{name}: OK" for name in files if name != "verdict.json")
    (release / "model/detector.npz").write_bytes(b"changed")
    (release / "evidence/robustness.json").unlink()
    checked = sha256sum(release, checksums)
    assert checked.returncode == 1
    assert "model/detector.npz: FAILED\n" in checked.stdout
    assert "evidence/robustness.json: FAILED open or read\n" in checked.stdout


def test_the_list_alone_goes_to_standard_output(release, capsys):
    assert cli.main(["verify", str(release), "--checksums", "-"]) == 0
    written = capsys.readouterr()
    assert sha256sum(release, written.out).returncode == 0
    assert "is valid" in written.err


def test_a_release_that_is_not_valid_gives_no_list(release, tmp_path, capsys):
    (release / "model/detector.npz").write_bytes(b"changed")
    assert cli.main(["verify", str(release), "--checksums", str(tmp_path / "SHA256SUMS")]) == 1
    assert not (tmp_path / "SHA256SUMS").exists()


def test_a_list_that_cannot_be_written_is_one_line_of_error(release, tmp_path, capsys):
    assert cli.main(["verify", str(release), "--checksums", str(tmp_path / "absent/SHA256SUMS")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_names_with_spaces_line_ends_and_backslashes_are_checked_too(tmp_path):
    names = ("with space", "line\nend", "back\\slash", "\\", "ä")
    for name in names:
        (tmp_path / name).write_text(name)
    checked = sha256sum(tmp_path, checksum_list({name: file_digest(tmp_path / name) for name in names}))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK\n") == len(names)


# --- the commands of the how-to document


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), flags=re.DOTALL))


def follow(release: Path) -> "subprocess.CompletedProcess[str]":
    """Run the document's commands in the release."""
    for program in ("jq", "openssl"):
        if shutil.which(program) is None:
            absent(f"{program} is not installed (Debian: {program})")
    script = f"set -euo pipefail\nkey=../../verdict.pub\n{blocks('bash')}"
    environment = {**os.environ, "TMPDIR": str(release.parent)}
    return subprocess.run(
        ["bash", "-c", script], cwd=release, env=environment, capture_output=True, text=True, check=False
    )


def test_the_documented_commands_accept_the_release(release):
    done = follow(release)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def link(path: Path) -> None:
    elsewhere = path.parents[1] / f"{path.name}.elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "harm",
    [
        lambda release: change(release / "model/model.json"),
        lambda release: change(release / "evidence/outcomes.csv"),
        lambda release: (release / "model/added").touch(),
        lambda release: (release / "added").touch(),
        lambda release: link(release / "model"),
        lambda release: link(release / "verdict.json"),
        lambda release: (release / "evidence/outcomes.csv").unlink(),
        lambda release: (release / "verdict.json").write_text(json.dumps(signed.envelope_of("promotion"))),
        lambda release: (release.parents[1] / "verdict.pub").write_bytes(other_key()),
    ],
    ids=[
        "model",
        "evidence",
        "added",
        "added beside",
        "linked model",
        "linked verdict",
        "removed",
        "another kind",
        "another key",
    ],
)
def test_the_documented_commands_refuse_a_changed_release(release, harm):
    harm(release)
    assert follow(release).returncode != 0


def other_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return public_pem(Ed25519PrivateKey.generate().public_key())


def test_the_documented_commands_refuse_a_failed_and_an_expired_verdict(project, release):
    projects.make_project(project, clean=60, robust=10)
    projects.build(project)
    assert follow(release).returncode != 0
    projects.make_project(project)
    projects.build(project, now=signed.MOMENT)
    assert follow(release).returncode != 0


def test_the_documented_python_accepts_the_release_and_refuses_a_changed_verdict(release, monkeypatch, capsys):
    monkeypatch.chdir(release)
    program = compile(blocks("python"), HOW_TO.name, "exec")
    exec(program, {"key": "../../verdict.pub"})
    assert capsys.readouterr().out == "urn:buckler:verdict:v3 True\n"
    envelope = json.loads(Path("verdict.json").read_text())
    Path("verdict.json").write_text(json.dumps({**envelope, "payload": signed.envelope_of("verdict")["payload"]}))
    with pytest.raises(VerificationError):
        exec(program, {"key": "../../verdict.pub"})
