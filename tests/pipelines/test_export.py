from pathlib import Path

import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.evaluation import reports
from buckler.evaluation.reports import RuntimeReport
from buckler.measurements.results import ParityPolicy
from buckler.models import checkpoint, runtime
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.radius import StatedRadius
from buckler.trust import digests
from pipelines import export
from tests import projects
from tests.forms import square

pytestmark = pytest.mark.slow

SIZE, COUNT = 32, 24
STRICT, LAX = ParityPolicy(1.0, 0.0, 0.0, 0.0), ParityPolicy(0.5, 1.0, 1.0, 1.0)
CLOSE = ParityPolicy(1.0, 1e-4, 0.0, 0.01)


def params(parity):
    return export.ExportParams(records=12, radii=(StatedRadius(2),), steps=2, seed=7, parity=parity)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The working directory at the start of the stage; a function that saves the classifier with a defence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "cpu_flags", lambda: {"avx512_vnni"})
    projects.write_splits(tmp_path, SIZE, COUNT, np.random.default_rng(7))
    network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=7)

    def save(defence="none"):
        info = checkpoint.ModelInfo(
            projects.LABELS, ("malignant",), square(SIZE), "sha256:data", defence, architecture="tiny"
        )
        checkpoint.save(network, info, export.CLASSIFIER)
        return network

    return save


def test_int8_serves_if_it_is_within_the_parity_limits(trained, capsys):
    network = trained()
    export.run(params(LAX))
    report = reports.read(RuntimeReport, export.REPORTS)
    assert report.serves == "int8"
    judged = (digests.directory_digest(export.CLASSIFIER), digests.directory_digest(export.RUNTIME))
    assert (report.model.digest, report.model.runtime) == judged
    assert set(report.precisions) == {"int8", "float32"}  # bfloat16 is not native here
    assert runtime.load_info(export.RUNTIME).precisions == ("int8", "float32")
    served = runtime.Runtime.load(export.RUNTIME)
    assert served.precision == "int8"
    images = np.random.default_rng(0).uniform(size=(1, SIZE, SIZE, 3)).astype(np.float32)
    assert not np.array_equal(served.logits(images), Classifier(network).logits(images))
    assert "serves in int8" in capsys.readouterr().out


def test_a_precision_without_parity_does_not_serve_and_is_reported(trained, capsys):
    trained()
    export.run(params(CLOSE))
    report = reports.read(RuntimeReport, export.REPORTS)
    assert report.serves == "float32"
    assert runtime.load_info(export.RUNTIME).precisions == ("float32",)
    assert any(text.startswith("probability gap") for text in report.precisions["int8"].failures(report.policy))
    said = capsys.readouterr().out
    assert "int8 differs too much from the reference (probability gap" in said
    assert "serves in float32" in said


def test_a_float32_export_without_parity_stops_the_pipeline(trained):
    trained()
    with pytest.raises(ModelError, match=r"is not at parity with its original: probability gap"):
        export.run(params(STRICT))
    assert not (export.RUNTIME / runtime.INFO_FILE).exists()


def test_a_randomised_network_stays_with_keras(trained):
    trained("randomised")
    export.run(params(LAX))
    assert not runtime.is_exported(export.RUNTIME)
    assert [path.name for path in Path(export.RUNTIME).iterdir()] == [runtime.INFO_FILE]
    assert reports.read(RuntimeReport, export.REPORTS).serves == "float32"
