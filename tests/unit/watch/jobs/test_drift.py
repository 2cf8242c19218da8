"""The whole job, on a published, promoted and exported tiny network, drawn pictures, and a traffic database."""

import hashlib
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import drift as drift_table
from buckler import watch
from buckler.data import manifest, pictures, sources
from buckler.modality.picture import uploads
from buckler.modality.picture.measures import traffic_measures
from buckler.models import checkpoint, export
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.models.runtime import Runtime, RuntimeInfo
from buckler.release import bundle, promote
from buckler.release.tracking import WritableRegistry
from buckler.serving import selftest, traffic
from buckler.serving.predictor import Predictor
from buckler.serving.registry import Registry
from buckler.serving.traffic_mixing import mixed_in_groups
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.digests import directory_digest
from buckler.trust.verdict import Source, open_release
from buckler.watch.jobs import drift
from buckler.watch.settings import WatchSettings
from tests import projects, screenings
from tests.forms import PICTURE, square

pytestmark = pytest.mark.slow

SIZE, PER_CLASS = 32, 40
SETTINGS = """
drift: {{window_hours: 24, window_records: 500, min_records: 50, alpha: 0.01, min_ks: 0.15, min_total_variation: 0.15,
  min_mmd: 0.1, permutations: 2000, seed: 7}}
publish: {{experiment: {name}, model_name: {name}}}
"""


def drawn(seed: int, per_class: int = PER_CLASS) -> list[tuple[str, bytes]]:
    items = sources.generated(PICTURE, per_class=per_class, seed=seed, size=SIZE)
    return [(item.label, item.read()) for item in items]


def write_splits(root, drawings) -> None:
    """Write the pictures and three splits that each list all of them."""
    rows = []
    for number, (label, content) in enumerate(drawings):
        path = root / f"data/images/{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "source": "test", "group": ""}
        about = {"id": path.name, "path": f"data/images/{number:03}.png", "label": label, "mode": "RGB"}
        rows.append({**about, **facts, "width": SIZE, "height": SIZE})
    for name in pictures.SPLITS:
        manifest.write(manifest.build(rows), root / f"data/splits/{name}.csv")


@pytest.fixture(scope="module")
def made(module_tmp_path):
    """A project directory with an untrained, exported network, a detector, pictures and reports."""
    root = module_tmp_path
    write_splits(root, drawn(seed=11))
    network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=7)
    version = pictures.version(root / "data/splits")
    info = checkpoint.ModelInfo(projects.LABELS, ("malignant",), square(SIZE), version, architecture="tiny")
    checkpoint.save(network, info, root / "models/classifier")
    images = np.stack([uploads.load_pixels(content, size=SIZE) for _, content in drawn(seed=3, per_class=20)])
    runtime = root / "models/runtime"
    export.write(network, images, runtime)
    RuntimeInfo(("float32",), "test").save(runtime)
    asked = Runtime(runtime / "float32.xml", "float32")
    screenings.fit(asked, images, np.arange(len(images)) % 2).save(root / "models/detector")
    digests = [directory_digest(root / f"models/{part}") for part in ("classifier", "runtime")]
    projects.write_reports(root / "reports", digests[0], 80, 40, runtime=digests[1])
    return root


@pytest.fixture(scope="module")
def champion(made, mlflow_database):
    """Publish and promote the model, and return its name in the registry."""
    name = "drift"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
        keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)
        key = keys.load_signing_key()
        verdict = bundle.build(
            made / "models/release",
            classifier=made / "models/classifier",
            runtime=made / "models/runtime",
            detector=made / "models/detector",
            reports=made / "reports",
            policy=replace(projects.POLICY, max_detector_fpr=1.0),
            name=name,
            source=Source(None, False),
            packages=(),
            key=key,
            write_self_test=selftest.write,
        )
        projects.publish(made, verdict, name)
        promote.promote(WritableRegistry(name))
    return name


@pytest.fixture
def name(champion, made, project, registry, monkeypatch, tmp_path):
    """The champion's name in the registry, in a project of the test's own."""
    for part in (Path("models"), Path("reports"), Path("data"), paths.KEYS):
        if (project / part).exists():
            (project / part).rename(project / f"{part}-unused")
        (project / part).parent.mkdir(exist_ok=True)
        (project / part).symlink_to(made / part)
    (project / "params.yaml").write_text(SETTINGS.format(name=champion))
    monkeypatch.setenv(traffic.URL_ENV, f"sqlite:///{tmp_path}/traffic.db")
    return champion


@pytest.fixture
def observed(name, project):
    """A function that answers pictures as the service does, and returns their exact observations."""
    verdict = open_release(project / "models/release", keys.load_public_keys())
    predictor = Predictor.of(project / "models/release/model", verdict)

    def observe(contents, change=lambda pixels: pixels, digest=predictor.digest):
        observations = []
        for content in contents:
            upload = uploads.load(content, size=SIZE)
            upload = replace(upload, values=np.ascontiguousarray(change(upload.values), np.float32))
            observations.append(traffic.observe(upload, predictor(upload.values), PICTURE, digest=digest))
        return observations

    return observe


@pytest.fixture
def served(observed):
    """A function that answers pictures and stores the mixed rows."""

    def serve(contents, *args, hours_ago=0, **options):
        moment = time.time() - 3600 * hours_ago
        rows = [replace(each, moment=moment) for each in mixed_in_groups(observed(contents, *args, **options), seed=3)]
        with traffic.Traffic(WatchSettings.from_env().traffic_url) as database:
            database.write(rows)

    return serve


def state():
    return watch.read_state("drift")


def others(seed: int = 12) -> list[bytes]:
    """Pictures from the same generator that the model was not trained on."""
    return [content for _, content in drawn(seed)]


def test_traffic_of_the_same_kind_passes(served):
    served(others())
    run = watch.run_once("drift")
    assert run.outcome == "passed", run.message
    assert "80 pictures: passed" in run.message
    found = state()
    assert found["window"]["pictures"] == found["reference"]["pictures"] == 80
    assert not any(kind["detected"] for kind in found["kinds"].values())
    assert all(0 < kind["p"] <= 1 for kind in found["kinds"].values())


def box_blur(pixels):
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return sum(padded[i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)) / 9


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        pytest.param(lambda pixels: pixels * 0.75, "brightness", id="darker"),
        pytest.param(lambda pixels: np.clip(pixels * [1.1, 1, 0.88], 0, 1), "saturation", id="colour cast"),
        pytest.param(box_blur, "sharpness", id="blurred"),
    ],
)
def test_other_light_camera_or_focus_fails_and_names_the_quantity(served, change, quantity):
    served(others(), change)
    run = watch.run_once("drift")
    assert run.outcome == "failed"
    assert f"{quantity} drifted" in run.message
    found = state()
    assert not found["passed"]
    assert found["kinds"]["input"]["detected"]
    drifted = [each for each in found["quantities"] if each["drifted"]]
    assert quantity in {each["quantity"] for each in drifted}
    assert len(found["reasons"]) == len(drifted)


def test_too_few_pictures_pass_with_that_message(served):
    served(others()[:49], lambda pixels: pixels * 0.5)
    run = watch.run_once("drift")
    assert (run.outcome, run.message.partition(": ")[2]) == ("passed", "too few pictures")
    assert state()["window"]["pictures"] == 49
    assert not state()["enough"]
    assert state()["kinds"]["input"] == {"detected": False, "p": None, "quantity": None}


def test_without_any_traffic_there_are_too_few_pictures(name):
    run = watch.run_once("drift")
    assert (run.outcome, state()["window"]["first"]) == ("passed", None), run.message


def test_answers_of_another_model_are_counted_and_not_compared(served):
    served(others())
    served(others(14), lambda pixels: pixels * 0.5, digest="sha256:another")
    run = watch.run_once("drift")
    assert run.outcome == "passed"
    assert "80 more were answered by another model than the champion" in run.message
    assert state()["window"]["of_other_models"] == 80


def test_traffic_before_the_window_is_ignored(served, project):
    served(others(), hours_ago=2)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("window_hours: 24", "window_hours: 0.5"))
    assert "too few" in watch.run_once("drift").message


def test_traffic_of_a_clock_that_was_ahead_is_ignored(served):
    served(others(), lambda pixels: pixels * 0.5, hours_ago=-40 * 24)
    served(others())
    run = watch.run_once("drift")
    assert run.outcome == "passed", run.message
    assert state()["window"]["pictures"] == 80


def test_the_reference_is_measured_once_for_a_champion_and_again_if_damaged(served, monkeypatch):
    served(others())
    measured = []
    real = drift.measure
    monkeypatch.setattr(drift, "measure", lambda predictor: measured.append(1) or real(predictor))
    first, second = (watch.run_once("drift") and state()["quantities"] for _ in range(2))
    assert first == second
    (kept,) = paths.WATCH_DRIFT_REFERENCE.glob("*.json")
    kept.write_text(kept.read_text()[:100])
    assert watch.run_once("drift").outcome == "passed"
    assert state()["quantities"] == first
    assert len(measured) == 2


def test_the_job_measures_pictures_as_the_service_does(observed, name):
    """Otherwise, all traffic would differ from the reference."""
    answered = observed([content for _, content in drawn(seed=11)])
    measured = drift.reference_of(Registry(name).champion(), Registry(name))
    for one, other in zip(answered, measured, strict=True):
        np.testing.assert_allclose(one.sketch, other.sketch, rtol=1e-5, atol=1e-6)
        assert replace(one, moment=0, sketch=()) == replace(other, moment=0, sketch=())


def test_other_data_than_the_models_are_an_error_with_the_next_step(served, project):
    served(others())
    (project / "data").unlink()
    write_splits(project, drawn(seed=9))
    run = watch.run_once("drift")
    assert run.outcome == "error"
    assert "dvc checkout" in run.message


@pytest.mark.parametrize(
    ("url", "message"), [("off", "no traffic is recorded"), ("sqlite:////proc/x/y", "cannot be used")]
)
def test_a_database_that_cannot_be_read_is_an_error(name, monkeypatch, url, message):
    monkeypatch.setenv(traffic.URL_ENV, url)
    run = watch.run_once("drift")
    assert run.outcome == "error"
    assert message in run.message


def test_a_missing_champion_is_an_error_with_the_next_step(project, registry):
    (project / "params.yaml").write_text(SETTINGS.format(name=registry))
    assert "buckler promote" in watch.run_once("drift").message


def test_the_state_is_valid_json_with_a_chart_for_each_quantity(served):
    served(others())
    watch.run_once("drift")
    text = (paths.WATCH / "drift.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for each in state()["quantities"]:
        chart = each["chart"]
        assert len(chart["reference"]) == len(chart["window"]) <= 20
        assert sum(chart["window"]) == pytest.approx(1)


def test_the_table_lists_detected_changes_and_false_alarms(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(drift_table, "CLEAN_DRAWS", 3)
    drift_table.run(60, tmp_path / "results")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 60 test pictures, changed | drifted from 80 calibration pictures |"
    assert "| none | nothing |" in lines  # here, test and calibration split list the same pictures
    assert any(line.startswith("| 20 % darker | brightness") for line in lines)
    assert any(line.startswith("| 3 x 3 box blur |") and "sharpness" in line for line in lines)
    assert lines[-1].startswith("Clean samples drawn again: 0 of 3 drift.")
    assert (tmp_path / "results/drift.json").is_file()


def test_another_camera_is_detected_on_real_pictures(real_data):
    """Of real dermoscopy, one part is the reference: the clean rest passes, a warm cast and dim light do not."""
    from buckler.watch.drift import DriftParams, compare

    cfg = DriftParams(24, 500, 50, 0.01, 0.15, 0.15, 0.1, 2000, 7)
    files = (
        sorted((real_data / "skin/benign").glob("*.jpg"))[:240]
        + sorted((real_data / "skin/malignant").glob("*.jpg"))[:240]
    )
    order = np.random.default_rng(5).permutation(len(files))
    loaded = [uploads.load(files[place], size=112) for place in order]

    def seen(upload, change=lambda pixels: pixels):
        found = traffic_measures(np.ascontiguousarray(change(upload.values), np.float32))
        rest = {"label": "benign", "decision": "accept", "score": 0.0, "confidence": 1.0}
        sides = {"width": upload.width, "height": upload.height, "size_bytes": upload.size_bytes}
        return traffic.TrafficObservation(moment=0.0, digest="d", **found, **rest, **sides, sketch=(0.0,))

    reference, clean = [seen(each) for each in loaded[:200]], [seen(each) for each in loaded[200:]]
    assert not [each.quantity for each in compare(reference, clean, cfg) if each.drifted]
    for change, quantity in (
        (lambda pixels: pixels * 0.85, "brightness"),
        (lambda pixels: np.clip(pixels * [1.05, 1, 0.85], 0, 1), "blue"),
    ):
        window = [seen(each, change) for each in loaded[200:]]
        assert quantity in {each.quantity for each in compare(reference, window, cfg) if each.drifted}
    window = [seen(uploads.load(_recompressed(each), size=112)) for each in loaded[200:]]
    assert {"size_bytes"} <= {each.quantity for each in compare(reference, window, cfg) if each.drifted}


def _recompressed(upload) -> bytes:
    """Return the picture as a phone app with strong compression would send it."""
    buffer = io.BytesIO()
    Image.fromarray((upload.values * 255).astype(np.uint8)).resize((224, 224)).save(buffer, "JPEG", quality=30)
    return buffer.getvalue()
