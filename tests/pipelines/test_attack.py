"""The stage on the tiny network."""

import csv
import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from buckler import params
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.data import manifest, pictures
from buckler.errors import ParamsError
from buckler.evaluation.journal import Journal
from buckler.evaluation.suite import AttackSpec
from buckler.models import checkpoint, runtime
from buckler.models.classifier import Classifier
from buckler.models.networks.base import HeadShape
from buckler.models.networks.tiny import TINY
from buckler.release import bundle
from buckler.state import paths
from pipelines import attack
from tests import projects

SIZE, COUNT = 32, 10
SUITE = (
    AttackSpec(FGSM(), (1, 8)),
    AttackSpec(PGD(steps=2), (4,), only_survivors=True),
    AttackSpec(PGD(steps=3), (8,), name="pgd-3"),
)
CONFIG = attack.AttackParams(records=8, batch_size=4, seed=7, subgroups={}, suite=SUITE)


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """The working directory at the start of the stage."""
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
    manifest.write(manifest.build(rows), attack.TEST)
    info = checkpoint.ModelInfo(projects.LABELS, ("malignant",), SIZE, "sha256:data", architecture="tiny")
    for seed, directory in ((8, attack.SURROGATE), (7, attack.CLASSIFIER)):
        network = TINY.build(SIZE, 2, head=HeadShape((8,)), seed=seed)
        checkpoint.save(network, info, directory)
    attack.RUNTIME.mkdir()
    runtime.RuntimeInfo((), "keras").save(attack.RUNTIME)
    everything = pictures.load(attack.TEST, projects.LABELS, size=SIZE)
    attack.CLEAN.parent.mkdir(parents=True, exist_ok=True)
    clean = Classifier(network, batch_size=4).forward(everything.images)
    np.savez(attack.CLEAN, **{f"test_{name}": array for name, array in asdict(clean).items()})
    return tmp_path


def test_the_reports_have_the_outcome_of_each_attack_and_radius_for_each_picture(ready):
    attack.run(CONFIG)
    report = json.loads((ready / "reports/robustness.json").read_text())
    with (ready / "reports/outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids = "".join(f"{row['id']}\n" for row in rows)
    assert report["data"]["ids_sha256"] == hashlib.sha256(ids.encode()).hexdigest()
    assert report["data"]["images"] == len(rows) == 8
    columns = ["fgsm_1", "fgsm_8", "pgd_4", "pgd-3_8"]
    assert [f"{cell['name']}_{cell['epsilon_255']}" for cell in report["cells"]] == columns
    for column, cell in zip(columns, report["cells"], strict=True):
        assert np.mean([row[column] == "1" for row in rows]) == cell["robust_accuracy"]["value"]
    assert [cell["steps"] for cell in report["cells"]] == [1, 1, 2, 3]
    assert [cell["only_survivors"] for cell in report["cells"]] == [False, False, True, False]
    assert report["cells"][2]["tuning"]["step_size"] == "2.5 * epsilon / steps"
    assert report["cells"][2]["knowledge"] == "white_box"
    assert "transfer_not_stronger_than_direct" in {check["name"] for check in report["checks"]}
    # The gate reads the same table, by column.
    outcomes = bundle.read_outcomes(ready / "reports/outcomes.csv")
    assert set(columns) | {"clean", "worst_1", "worst_8"} <= set(next(iter(outcomes.values())))
    with np.load(ready / "data/features/attacked.npz") as arrays:
        cells = {"fgsm@1", "fgsm@8", "pgd@4", "pgd-3@8"}
        lines = {f"{name}.{fact}" for name in ("fgsm", "pgd", "pgd-3") for fact in ("attack", "stops_at_boundary")}
        assert set(arrays.files) == {"ids"} | cells | {f"{cell}.logits" for cell in cells} | lines
        assert str(arrays["pgd-3.attack"]) == "pgd"
        assert [bool(arrays[f"{name}.stops_at_boundary"]) for name in ("fgsm", "pgd")] == [False, True]


def test_a_stage_that_fails_after_the_attack_does_not_attack_again_and_a_finished_one_leaves_no_state(
    ready, monkeypatch
):
    monkeypatch.setattr(attack.documents, "write_csv", full_disk)
    with pytest.raises(OSError, match="disk full"):
        attack.run(CONFIG)
    monkeypatch.undo()
    monkeypatch.chdir(ready)
    stored = []
    monkeypatch.setattr(Journal, "store", lambda *args: stored.append(args))
    attack.run(CONFIG)
    assert stored == []
    assert list((ready / paths.ATTACK_JOURNAL).iterdir()) == []


def full_disk(*args):
    raise OSError("disk full")


def test_two_lines_of_one_name_are_refused_with_the_next_step():
    section = {"records": 0, "batch_size": 4, "seed": 7, "subgroups": {}}
    section["suite"] = [{"attack": "pgd", "epsilon_255": [1], "steps": steps} for steps in (10, 40)]
    with pytest.raises(ParamsError, match="give each its own `name"):
        params.parse("attack", attack.AttackParams, section)
    section["suite"][1]["name"] = "pgd-40"
    assert [spec.name for spec in params.parse("attack", attack.AttackParams, section).suite] == ["pgd", "pgd-40"]
