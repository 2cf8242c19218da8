"""Documents that were signed before they were in-toto statements still verify.

The files in ``earlier`` were made by the code of commit ef9a14b, with a key that was not kept: a release of the small
project of `tests.projects` with the reports of a real run, and the other documents about it.
"""

import json
import shutil
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buckler.errors import VerdictError
from buckler.release import bundle
from buckler.release.evidence import read_reports
from buckler.trust import earlier, envelope, keys, promotion, receipt, signed, standing
from buckler.trust.digests import directory_digest
from buckler.trust.verdict import Source, open_release, verify_release
from tests import projects
from tests.unit.trust.signed import KINDS as ALL_KINDS
from tests.unit.trust.signed import seal

KINDS = {kind: document for kind, document in ALL_KINDS.items() if kind not in ("recovery", "approval")}  # newer
EARLIER = Path(__file__).parent / "earlier"
PUBLIC = keys.load_public_keys(EARLIER / "verdict.pub")
MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
VERDICT_ID = "sha256:cd87e27238917c6ec66fec85f0246f3040a9a78c328bef0b9bce908f9f51ae35"


def text_of(kind: str) -> str:
    return (EARLIER / ("release/verdict.json" if kind == "verdict" else f"{kind}.json")).read_text()


def test_a_release_is_valid_under_the_id_that_its_verdict_had():
    verdict = verify_release(EARLIER / "release", PUBLIC, name="skin-lesion", now=MOMENT)
    assert verdict.id == VERDICT_ID
    assert verdict.subject_digest == directory_digest(EARLIER / "release/model")
    assert (verdict.passed, verdict.reasons) == (True, ())
    assert verdict.source == Source("0" * 40, False)
    assert verdict.issued_at == MOMENT
    assert verdict.policy["valid_days"] == 30
    assert "passed" not in verdict.measured


def test_the_results_of_a_verdict_and_its_evidence_are_readable():
    text = bundle.describe(open_release(EARLIER / "release", PUBLIC))
    assert "120 pictures attacked" in text
    assert "<= 2/255    65.0%" in text
    cells = read_reports(EARLIER / "release/evidence").robustness.cells
    assert {cell.name for cell in cells} == {"fgsm", "pgd"}


@pytest.mark.parametrize("name", ["model/classifier.keras", "evidence/robustness.json", "model/added"])
def test_a_changed_or_added_file_is_refused(tmp_path, name):
    release = Path(shutil.copytree(EARLIER / "release", tmp_path / "release"))
    (release / name).write_bytes(b"changed")
    with pytest.raises(VerdictError, match=Path(name).name) as caught:
        open_release(release, PUBLIC)
    assert caught.value.reason == "digest"


def test_a_standing_is_valid_for_the_release():
    found = standing.read(text_of("standing"), PUBLIC, model_name="skin-lesion", version="3", registry="local")
    found.check(open_release(EARLIER / "release", PUBLIC))
    assert (found.state, found.reasons) == ("degraded", ("drift: too dark",))


def test_a_promotion_is_readable_for_a_recovery_and_refused_for_a_service():
    record = signed.read(text_of("promotion"), PUBLIC, model="skin-lesion", registry="local", earlier=True).record
    record.check(open_release(EARLIER / "release", PUBLIC))
    assert (record.moment, record.registry, record.sequence) == (MOMENT, "", 0)
    with pytest.raises(VerdictError, match="names no registry"):
        promotion.read(text_of("promotion"), PUBLIC, model_name="skin-lesion", version="3", registry="local")


def test_a_receipt_is_valid_for_its_picture():
    found = receipt.verify(EARLIER / "receipt.json", EARLIER / "picture.jpg", PUBLIC)
    assert (found.answer["label"], found.issued_at, found.audit.sequence) == ("benign", MOMENT, 17)


@pytest.mark.parametrize("offered", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_an_earlier_document_of_one_kind_is_refused_as_any_other(offered, wanted):
    if offered == wanted:
        return
    with pytest.raises(VerdictError, match=f"got 'application/vnd.buckler.{offered}"):
        KINDS[wanted].open(json.loads(text_of(offered)), PUBLIC)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_before_the_payload_is_read(kind):
    sealed = json.loads(text_of(kind))
    sealed["payload"] = sealed["payload"].replace("e", "f", 1)
    with pytest.raises(VerdictError) as caught:
        KINDS[kind].open(sealed, PUBLIC)
    assert caught.value.reason == "signature"


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_statement_of_another_form_is_refused(kind):
    statement = json.loads(b64decode(json.loads(text_of(kind))["payload"]))
    assert "expected schema 1, got 2" in refusal(kind, statement | {"schema": 2})
    assert "KeyError" in refusal(kind, {"schema": 1})
    name = "input" if kind == "receipt" else "subject" if kind == "verdict" else "model"
    refusal(kind, statement | {name: 7})


@pytest.mark.parametrize("digest", ["sha256:7d7d", "7d" * 32, 7, float("nan"), "\ud800", None])
@pytest.mark.parametrize("kind", KINDS)
def test_an_earlier_document_about_something_without_a_digest_is_refused(kind, digest):
    statement = json.loads(b64decode(json.loads(text_of(kind))["payload"]))
    if kind == "verdict":
        statement["subject"]["files"]["classifier.keras"] = digest
    else:
        statement["input" if kind == "receipt" else "digest"] = digest
    payload = json.dumps(statement).encode()
    sealed = seal(payload, earlier.payload_type(kind))
    with pytest.raises(VerdictError, match="subject is malformed") as caught:
        KINDS[kind].open(sealed, projects.PUBLIC)
    assert caught.value.reason == "malformed"


def refusal(kind: str, statement: dict[str, object]) -> str:
    sealed = envelope.sign(statement, projects.KEY, payload_type=earlier.payload_type(kind))
    with pytest.raises(VerdictError) as caught:
        KINDS[kind].open(sealed, projects.PUBLIC)
    assert caught.value.reason == "malformed"
    return str(caught.value)
