"""The service class without a server, with a real predictor; and how it loads its model."""

import asyncio
import gc
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from benchmarks.signing import write_verdict
from buckler.trust import audit_chain, digests, hardware
from buckler.trust import receipt as receipts
from buckler.trust.hardware.session import module_of
from buckler.trust.hardware.uri import parse
from buckler.trust.keys import (
    PRIVATE_KEY_FILE,
    PUBLIC_KEY_FILE,
    VERDICT_KEY_ENV,
    generate_key_pair,
    load_public_keys,
)
from buckler.trust.public_keys import PublicKeys
from buckler.trust.verdict import VERDICT_FILE
from services.classifier import metrics
from services.classifier.contract import Answer, RefusalError
from services.classifier.releases.loading import bound_threads
from services.classifier.requests import Call, Sender, new_id
from services.classifier.routing import Format
from services.classifier.served import Served
from services.classifier.service import ClassifierService, create
from services.classifier.settings import Settings
from tests.services.registry_models import change_the_weights
from tests.services.running import load_served

pytestmark = pytest.mark.slow

Starter = Callable[..., Any]


@pytest.fixture(scope="module")
def served(release: Path, keys: Path) -> Served:
    from buckler.serving.predictor import Predictor

    predictor = Predictor.load(release, load_public_keys(keys / PUBLIC_KEY_FILE))
    return Served(predictor, "skin-lesion", "3")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)  # not the log and keys of this checkout
    return Settings(audit_log=tmp_path / "audit/audit.jsonl", traffic_url="off")


@pytest.fixture
def start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """Start services as BentoML does, and stop their threads after the test."""
    # It takes most of a second in a process with TensorFlow and all tests.
    monkeypatch.setattr("services.classifier.service.freeze_loaded_objects", lambda: None)
    started = []

    def start(served: Served | None = None, **changes: object) -> Any:
        started.append(ClassifierService(settings.model_copy(update=changes), served))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def upload(picture: bytes, tmp_path: Path) -> Path:
    (tmp_path / "image").write_bytes(picture)
    return tmp_path / "image"


@pytest.fixture
def trusted(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def ask(service: ClassifierService, picture: bytes, **state: Any) -> Answer:
    """Return the answer to a picture, as a handler gets it."""
    call = Call(id=new_id(), format=Format("application/json"), pipeline=service.pipeline, **state)

    async def answer() -> Answer:
        return (await call.answer(call.ready(), picture)).answer

    return asyncio.run(answer())


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_answer_has_the_form_of_the_contract(served: Served, picture: bytes, tmp_path: Path, start: Starter):
    path = tmp_path / "image"
    path.write_bytes(picture)
    answer = asyncio.run(start(served).predict(path))

    assert isinstance(answer, Answer)
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.__getitem__)
    assert answer.decision == ("review" if answer.reasons else "accept")
    flagged = answer.detector.score > answer.detector.threshold
    assert answer.detector.verdict == ("adversarial" if flagged else "clean")
    assert answer.model.model_dump() == {
        "name": "skin-lesion",
        "version": "3",
        "digest": served.predictor.digest,
        "verdict": served.predictor.verdict.id,
    }


def test_an_answer_is_counted_by_label_decision_and_score(served: Served, picture: bytes, start: Starter):
    service = start(served)
    before = value("buckler_detector_score_count")
    answer = ask(service, picture)
    counted = value("buckler_predictions_total", label=answer.label)
    ask(service, picture)
    assert value("buckler_predictions_total", label=answer.label) == counted + 1
    assert value("buckler_detector_score_count") == before + 2


def test_each_answer_is_logged_with_the_digest_of_the_received_picture(served, picture, upload, settings, start):
    service = start(served)
    answer = ask(service, picture)
    ask(service, picture, sender=Sender("key-7"))

    report = audit_chain.verify(settings.audit_log)
    assert (report.problem, report.lines) == (None, 2)
    first, second = map(json.loads, settings.audit_log.read_text().splitlines())
    assert first["answer"] == answer.model_dump()
    assert first["input"] == digests.file_digest(upload)
    assert (first["client"], second["client"]) == ("anonymous", "key-7")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(first["time"])) < timedelta(minutes=1)


def test_a_refused_picture_is_not_logged_as_an_answer(served, settings, start):
    with pytest.raises(RefusalError):
        ask(start(served), b"hello")
    assert audit_chain.verify(settings.audit_log).lines == 0


def test_an_answer_that_cannot_be_logged_is_neither_sent_nor_counted(served, picture, settings, caplog, start):
    service = start(served)
    (settings.audit_log.parent / "audit.jsonl.lock").unlink()
    settings.audit_log.unlink()
    settings.audit_log.mkdir()
    before = value("buckler_detector_score_count")
    with pytest.raises(RefusalError) as caught:
        ask(service, picture)
    assert caught.value.code == "audit_unavailable"
    assert "cannot write the audit log" in caplog.text
    assert str(settings.audit_log) not in str(caught.value)
    assert value("buckler_detector_score_count") == before


def test_an_unwritable_audit_log_is_reported_at_the_start_and_refuses_answers(served, picture, tmp_path, caplog, start):
    service = start(served, audit_log=tmp_path)
    assert "/predict answers 503 until this is fixed" in caplog.text
    with pytest.raises(RefusalError) as caught:
        ask(service, picture)
    assert caught.value.code == "audit_unavailable"


def test_without_an_audit_log_the_service_answers_and_warns(served, picture, caplog, start):
    assert ask(start(served, audit_log="off"), picture).label
    assert "the audit log is off" in caplog.text


def test_a_receipt_covers_picture_answer_and_audit_line(served, picture, upload, settings, keys, tmp_path, start):
    answer = ask(start(served, receipt_key=str(keys / receipts.PRIVATE_KEY_FILE)), picture, receipt=True)
    (tmp_path / "answer.json").write_text(answer.model_dump_json())

    public = load_public_keys(keys / receipts.PUBLIC_KEY_FILE)
    receipt = receipts.verify(tmp_path / "answer.json", upload, public, model_digest=served.predictor.digest)
    sequence, digest = receipt.audit.sequence, receipt.audit.digest
    report = audit_chain.verify(settings.audit_log, expect_lines=sequence, expect_head=digest)
    assert (report.problem, sequence) == (None, 1)


def test_without_a_key_a_receipt_is_refused_before_the_model_computes(served, picture, settings, start):
    with pytest.raises(RefusalError) as caught:
        ask(start(served), picture, receipt=True)
    assert caught.value.code == "receipt_unavailable"
    assert audit_chain.verify(settings.audit_log).lines == 0


def test_the_verdict_key_does_not_sign_receipts(served, picture, keys, trusted, caplog, start):
    with pytest.raises(RefusalError) as caught:
        ask(start(served, receipt_key=str(keys / PRIVATE_KEY_FILE)), picture, receipt=True)
    assert caught.value.code == "receipt_unavailable"
    assert "which no service may have" in caplog.text


def test_a_token_signs_receipts_and_while_it_is_away_they_are_refused(
    served, picture, upload, softhsm, tmp_path, caplog, start
):
    softhsm.add_token("receipts")
    uri = softhsm.uri("receipts")
    public = PublicKeys.of(hardware.create_key(uri).public_key())
    service = start(served, receipt_key=uri)
    (tmp_path / "answer.json").write_text(ask(service, picture, receipt=True).model_dump_json())
    assert receipts.verify(tmp_path / "answer.json", upload, public).model_digest == served.predictor.digest
    with softhsm.away(), pytest.raises(RefusalError) as caught:
        ask(service, picture, receipt=True)
    assert caught.value.code == "receipt_unavailable"
    assert "cannot sign its receipt: expected a token" in caplog.text
    assert ask(service, picture, receipt=True).receipt is not None


def test_a_token_that_does_not_answer_delays_only_receipts(served, picture, softhsm, start):
    softhsm.add_token("slow")
    uri = softhsm.uri("slow")
    hardware.create_key(uri)
    service = start(served, receipt_key=uri)

    def answered(*, receipt: bool):
        call = Call(id=new_id(), format=Format("application/json"), pipeline=service.pipeline, receipt=receipt)
        return call.answer(call.ready(), picture)

    async def both():
        with module_of(parse(uri))._lock:  # as if a call of the library did not return
            waiting = asyncio.create_task(answered(receipt=True))
            while not waiting.done() and not service.pipeline._signing._free.locked():
                await asyncio.sleep(0.01)
            without = await asyncio.wait_for(answered(receipt=False), 60)
            assert not waiting.done()
        return without, await waiting

    without, signed = asyncio.run(both())
    assert without.answer.receipt is None
    assert signed.answer.receipt is not None


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "image_empty"), (b"hello", "image_unsupported"), (b"\xff\xd8\xff\xe0 cut", "image_unreadable")],
)
def test_an_unusable_picture_is_refused_with_the_decoders_code(served, content, code, start):
    with pytest.raises(RefusalError) as caught:
        ask(start(served), content)
    assert caught.value.code == code


def test_a_valid_release_is_loaded_and_exported(release: Path, trusted: None):
    served = load_served(Settings(release=release))
    assert served is not None
    metrics.show_model(served)
    verdict = served.predictor.verdict
    labels = {"model": "skin-lesion", "version": "local", "digest": served.predictor.digest}
    assert value("buckler_model_info", **labels) == 1
    assert value("buckler_model_verdict_expiry_timestamp_seconds") == verdict.expires_at.timestamp()


def flip_a_byte_of_the_weights(release: Path, keys: Path) -> None:
    change_the_weights(release)


def sign_a_failure(release: Path, keys: Path) -> None:
    write_verdict(release, keys, passed=False, reasons=("robust accuracy 0.1 < 0.3",))


def sign_for_yesterday(release: Path, keys: Path) -> None:
    write_verdict(release, keys, expires_at=datetime.now(UTC) - timedelta(seconds=1))


def sign_with_another_key(release: Path, keys: Path) -> None:
    generate_key_pair(release.parent / "other")
    write_verdict(release, release.parent / "other")


def take_the_verdict_away(release: Path, keys: Path) -> None:
    (release / VERDICT_FILE).unlink()


def scribble_on_the_verdict(release: Path, keys: Path) -> None:
    (release / VERDICT_FILE).write_text("{")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip_a_byte_of_the_weights, "digest"),
        (sign_a_failure, "failed"),
        (sign_for_yesterday, "expired"),
        (sign_with_another_key, "signature"),
        (take_the_verdict_away, "missing"),
        (scribble_on_the_verdict, "malformed"),
    ],
)
def test_an_invalid_release_is_refused_and_counted(copy, keys, trusted, harm, reason):
    harm(copy, keys)
    before = value("buckler_model_refused_total", reason=reason)
    assert load_served(Settings(release=copy)) is None
    assert value("buckler_model_refused_total", reason=reason) == before + 1


def test_without_a_model_the_service_is_alive_but_not_ready(copy, keys, trusted, start):
    take_the_verdict_away(copy, keys)
    service = start(release=copy)
    with pytest.raises(RefusalError) as caught:
        ask(service, b"picture")
    assert caught.value.code == "no_verified_model"


def test_threads_are_divided_among_workers_unless_the_operator_set_them(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    bound_threads(workers=4)
    import os

    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_bentoml_gets_the_workers_and_a_timeout_longer_than_ours():
    service = create(Settings(workers=3, body_timeout_seconds=20, request_timeout_seconds=5))
    assert service.config["workers"] == 3
    assert service.config["traffic"]["timeout"] > 25
    assert set(service.apis) == {"predict"}


def test_settings_are_read_when_bentoml_loads_the_service_and_not_before(monkeypatch):
    import services.classifier.service as module

    monkeypatch.delitem(vars(module), "Classifier", raising=False)
    monkeypatch.setenv("BUCKLER_WORKERS", "5")
    loaded = module.Classifier
    assert loaded.config["workers"] == 5
    assert loaded is module.Classifier
    assert loaded.import_string == "services.classifier.service:Classifier"
    monkeypatch.delitem(vars(module), "Classifier")


def test_loaded_objects_are_excluded_from_garbage_collection(served: Served, settings: Settings) -> None:
    gc.unfreeze()
    ClassifierService(settings, served).stop()
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()
