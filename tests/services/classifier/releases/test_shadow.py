"""Shadow comparison: the challenger's answers are compared, never returned, and delay no client."""

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from benchmarks.signing import write_verdict
from buckler.release import tracking
from buckler.serving.aliases import CHALLENGER
from buckler.trust.keys import PUBLIC_KEY_FILE, VERDICT_KEY_ENV, generate_key_pair, load_public_keys
from services.classifier.contract import Answer
from services.classifier.releases.shadow import QUEUE, ChallengerFollower, Shadow
from services.classifier.releases.slot import ModelSlot
from services.classifier.releases.sources import RegistrySource
from services.classifier.served import Served
from services.classifier.settings import Settings
from tests.services.champions import forget
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def pictures(outcome: str) -> float:
    return value("buckler_shadow_pictures_total", outcome=outcome)


@pytest.fixture(scope="module")
def predictor(release: Path, keys: Path):
    from buckler.serving.predictor import Predictor

    return Predictor.load(release, load_public_keys(keys / PUBLIC_KEY_FILE))


class OtherModel:
    """The real predictor under another digest, like a challenger with the same weights."""

    def __init__(self, predictor) -> None:
        self._predictor, self.form, self.digest = predictor, predictor.form, "sha256:other"
        self.asked = 0

    def __call__(self, pixels):
        self.asked += 1
        return self._predictor(pixels)


def answer_of(predictor, picture: bytes) -> Answer:
    from buckler.modality.picture.images import load_pixels

    prediction = predictor(load_pixels(picture, size=predictor.form.shape[0]))
    return Answer.of(prediction, Served(predictor, "skin-lesion", "1"), "r")


@pytest.fixture
def shadow() -> Iterator[Callable[[object], Shadow]]:
    made = []

    def make(predictor: object, share: float = 1.0, start: bool = True) -> Shadow:
        made.append(Shadow(Settings(shadow_share=share)))
        made[-1]._follower = SimpleNamespace(start=lambda: None, stop=lambda: None)  # without a registry
        made[-1]._slot.swap(Served(predictor, "skin-lesion", "2"))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_equal_models_agree_and_the_comparison_is_counted_and_logged(predictor, picture, shadow, caplog):
    caplog.set_level("INFO", "buckler.service")
    before, differences = pictures("compared"), value("buckler_shadow_probability_difference_sum")
    disagreed = [value("buckler_shadow_disagreements_total", about=about) for about in ("label", "decision")]
    answer = answer_of(predictor, picture)
    held = answer.model_copy(deep=True)
    shadow(OtherModel(predictor)).enqueue(picture, answer)
    wait_for(lambda: pictures("compared") == before + 1)
    assert answer == held
    assert value("buckler_shadow_probability_difference_sum") == pytest.approx(differences, abs=1e-5)
    assert disagreed == [value("buckler_shadow_disagreements_total", about=about) for about in ("label", "decision")]
    wait_for(lambda: "shadow request=r champion=1 challenger=2 differs=no" in caplog.text)


def test_a_different_answer_is_counted_by_what_differs(predictor, picture, shadow):
    answer = answer_of(predictor, picture)
    other = next(label for label in answer.probabilities if label != answer.label)
    shares = {answer.label: 0.1, other: 0.9}
    detector = answer.detector.model_copy(
        update={"verdict": "clean" if answer.detector.verdict == "adversarial" else "adversarial"}
    )
    turned = answer.model_copy(update={"label": other, "probabilities": shares, "detector": detector})
    names = ("label", "decision", "detector")
    before = {about: value("buckler_shadow_disagreements_total", about=about) for about in names}
    compared = pictures("compared")
    shadow(OtherModel(predictor)).enqueue(picture, turned)
    wait_for(lambda: pictures("compared") == compared + 1)
    grown = {about: value("buckler_shadow_disagreements_total", about=about) - before[about] for about in names}
    assert grown == {"label": 1, "decision": 0, "detector": 1}


def test_the_share_sets_how_many_pictures_are_compared(predictor, picture, shadow):
    answer = answer_of(predictor, picture)
    never = shadow(OtherModel(predictor), share=0.0)
    some = shadow(OtherModel(predictor), share=0.5, start=False)
    for _ in range(200):
        never.enqueue(picture, answer)
        some.enqueue(picture, answer)
        if some._queue.full():
            break
    assert never._queue.empty()
    assert some._queue.full()


def test_a_promoted_challenger_is_not_compared_with_itself(predictor, picture, shadow):
    itself = shadow(predictor, start=False)
    itself.enqueue(picture, answer_of(predictor, picture))
    assert itself._queue.empty()


def test_no_comparison_starts_while_a_client_waits_and_a_full_queue_drops_pictures(predictor, picture, shadow):
    answer, model = answer_of(predictor, picture), OtherModel(predictor)
    dropped, compared = pictures("dropped"), pictures("compared")
    busy = shadow(model)
    with busy.paused():
        for _ in range(QUEUE + 5):
            busy.enqueue(picture, answer)
        time.sleep(1.0)
        assert model.asked == 0
        lost = pictures("dropped") - dropped
        assert 4 <= lost <= 5  # the thread may have taken one already
    wait_for(lambda: pictures("compared") - compared == QUEUE + 5 - lost)


def test_a_failing_challenger_is_counted_and_the_next_picture_compared(predictor, picture, shadow, caplog):
    class Broken(OtherModel):
        def __call__(self, pixels):
            if self.asked == 0:
                self.asked += 1
                raise RuntimeError("kernel")
            return super().__call__(pixels)

    failed, compared = pictures("failed"), pictures("compared")
    breaking = shadow(Broken(predictor))
    breaking.enqueue(picture, answer_of(predictor, picture))
    wait_for(lambda: pictures("failed") == failed + 1)
    breaking.enqueue(picture, answer_of(predictor, picture))
    wait_for(lambda: pictures("compared") == compared + 1)
    assert "did not answer" in caplog.text


@pytest.mark.parametrize(("passed", "trusted", "taken"), [(False, True, True), (True, False, False)])
def test_a_challenger_that_failed_its_gate_is_compared_but_an_unsigned_one_is_not(
    release, keys, tmp_path, monkeypatch, mlflow_database, passed, trusted, taken
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
    monkeypatch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))
    monkeypatch.chdir(tmp_path)
    if not trusted:
        generate_key_pair(tmp_path / "other")
        keys = tmp_path / "other"
    name = f"shadow-{passed}-{trusted}"
    challenger = Path(shutil.copytree(release, tmp_path / "challenger" / "release"))
    expired = datetime.now(UTC) - timedelta(days=1)
    write_verdict(challenger, keys, name, passed=passed, reasons=("weak",), expires_at=expired)
    run = tracking.start_run("service", "test", {})
    uri = tracking.log_release(run, challenger, labels=["benign", "malignant"], shape=(32, 32, 3))
    model = tracking.WritableRegistry(name)
    model.set_alias(CHALLENGER, model.register(uri, tags={}, description="test"))

    slot, settings = ModelSlot(), Settings(model_name=name, releases_dir=tmp_path / "releases")
    before = value("buckler_shadow_refused_total", reason="signature")
    refused = value("buckler_model_refused_total", reason="signature")
    ChallengerFollower(settings, RegistrySource(settings, CHALLENGER), slot).check()
    assert (slot.served is not None) == taken
    assert value("buckler_shadow_refused_total", reason="signature") == before + (not taken)
    assert value("buckler_model_refused_total", reason="signature") == refused
    assert not [path for path in settings.releases_dir.iterdir() if path.is_dir()]
    forget(name)
