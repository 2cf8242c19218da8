import hashlib
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from buckler.data import manifest, pictures
from buckler.models import checkpoint, runtime
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from pipelines.attack import CLASSIFIER, CLEAN, RUNTIME, SURROGATE, TEST
from pipelines.detect import CALIBRATION
from tests import projects
from tests.forms import pictures_of, square

SIZE, COUNT = 32, 10


@pytest.fixture
def attackable(tmp_path, monkeypatch):
    """A working directory with a tiny classifier, its surrogate, ten pictures in two splits, and the clean answers."""
    monkeypatch.chdir(tmp_path)
    generator, rows = np.random.default_rng(7), []
    for i in range(COUNT):
        path = tmp_path / f"data/images/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
        content = path.read_bytes()
        about = {"id": f"{i}.png", "path": str(path), "label": projects.LABELS[i % 2], "group": ""}
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "source": "test"}
        rows.append({**about, **facts, "width": SIZE, "height": SIZE, "mode": "RGB"})
    info = checkpoint.ModelInfo(
        projects.LABELS, ("malignant",), square(SIZE), "sha256:data", architecture="tiny", data_source="directory"
    )
    for split in (TEST, CALIBRATION):
        manifest.write(manifest.build(rows), split)
    for seed, directory in ((8, SURROGATE), (7, CLASSIFIER)):
        network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=seed)
        checkpoint.save(network, info, directory)
    RUNTIME.mkdir()
    runtime.RuntimeInfo((), "keras").save(RUNTIME)
    everything = pictures.load(TEST, projects.LABELS, pictures_of(SIZE))
    CLEAN.parent.mkdir(parents=True, exist_ok=True)
    clean = Classifier(network, batch_size=4).forward(everything.images)
    arrays = {f"{split}_{name}": array for split in ("test", "calibration") for name, array in asdict(clean).items()}
    np.savez(CLEAN, **arrays)
    return tmp_path
