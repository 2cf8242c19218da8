"""The file that `train.weights` names is an input of the pipeline, as `dvc repro` sees it."""

import json
import re

import pytest

from buckler.models.networks.tiny import TINY
from buckler.trust.digests import file_digest
from tests.forms import square
from tests.pipelines.checkout import Checkout

pytestmark = pytest.mark.slow


def stages_run(project):
    result = project("dvc", "repro", "features")
    assert result.returncode == 0, result.stdout + result.stderr
    return re.findall("Running stage '(.*)'", result.stdout)


def test_another_file_under_the_same_path_counts_as_another_input(tmp_path):
    project = Checkout(tmp_path, **{"data.per_class": 40, "train.network": "tiny", "train.weights": "my.weights.h5"})
    file = tmp_path / "my.weights.h5"
    TINY.base(square(32), seed=1).save_weights(file)
    assert set(stages_run(project)) == {"weights", "ingest", "validate", "split", "features", "preflight"}
    assert json.loads((tmp_path / "data/weights.json").read_text())["digest"] == file_digest(file)
    assert stages_run(project) == ["weights"]
    TINY.base(square(32), seed=2).save_weights(file)
    assert stages_run(project) == ["weights", "preflight", "features"]
    file.write_text("<html>not found</html>")
    refused = project("dvc", "repro", "features")
    assert refused.returncode != 0
    assert "error: train.weights: expected a complete Keras weights file (HDF5), got my.weights.h5" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "'features'" not in refused.stdout
