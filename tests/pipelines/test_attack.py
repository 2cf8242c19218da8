"""The stage on the tiny network."""

import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from buckler import params
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import BIM, PGD
from buckler.errors import ParamsError
from buckler.evaluation import illustrations, reports
from buckler.evaluation.journal import Journal
from buckler.evaluation.reports import RobustnessReport
from buckler.evaluation.suite import AttackSpec
from buckler.release import evidence
from buckler.state import timings
from pipelines import attack

pytestmark = pytest.mark.slow

SUITE = (
    AttackSpec(FGSM(), (1, 8)),
    AttackSpec(PGD(steps=2), (4,), only_survivors=True),
    AttackSpec(PGD(steps=3), (8,), name="pgd-3"),
)
CONFIG = attack.AttackParams(records=8, batch_size=4, seed=7, subgroups={}, suite=SUITE)


def test_the_reports_have_the_outcome_of_each_attack_and_radius_for_each_picture(attackable):
    attack.run(CONFIG)
    report = reports.read(RobustnessReport, attackable / "reports")
    with (attackable / "reports/outcomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids = "".join(f"{row['id']}\n" for row in rows)
    assert report.data.ids_sha256 == hashlib.sha256(ids.encode()).hexdigest()
    assert report.data.images == len(rows) == 8
    assert report.data.source == "directory"
    columns = ["fgsm_1/255", "fgsm_8/255", "pgd_4/255", "pgd-3_8/255"]
    assert [f"{cell.name}_{cell.radius}" for cell in report.cells] == columns
    for column, cell in zip(columns, report.cells, strict=True):
        assert np.mean([row[column] == "1" for row in rows]) == cell.robust_accuracy.value
    assert [cell.steps for cell in report.cells] == [1, 1, 2, 3]
    assert [cell.only_survivors for cell in report.cells] == [False, False, True, False]
    assert report.cells[2].tuning["step_size"] == "2.5 * epsilon / steps"
    assert report.cells[2].knowledge == "white_box"
    assert "transfer_not_stronger_than_direct" in {check.name for check in report.checks}
    # The gate reads the same table, by column.
    outcomes = evidence.read_outcomes(attackable / "reports/outcomes.csv")
    assert set(columns) | {"clean", "worst_1/255", "worst_8/255"} <= set(next(iter(outcomes.values())))
    with np.load(attackable / "data/features/attacked.npz") as arrays:
        cells = {"fgsm@1/255", "fgsm@8/255", "pgd@4/255", "pgd-3@8/255"}
        lines = {f"{name}.{fact}" for name in ("fgsm", "pgd", "pgd-3") for fact in ("attack", "stops_at_boundary")}
        assert set(arrays.files) == {"ids"} | cells | {f"{cell}.logits" for cell in cells} | lines
        assert str(arrays["pgd-3.attack"]) == "pgd"
        assert [bool(arrays[f"{name}.stops_at_boundary"]) for name in ("fgsm", "pgd")] == [False, True]


def test_a_stage_that_failed_after_the_attack_or_finished_does_not_attack_again(attackable, monkeypatch):
    monkeypatch.setattr(attack.documents, "write_csv", full_disk)
    with pytest.raises(OSError, match="disk full"):
        attack.run(CONFIG)
    monkeypatch.undo()
    monkeypatch.chdir(attackable)
    stored = []
    monkeypatch.setattr(Journal, "store", lambda *args: stored.append(args))
    attack.run(CONFIG)
    first = {file.name: file.read_bytes() for file in (attackable / "reports").iterdir() if file.name != timings.FILE}
    attack.run(CONFIG)
    assert stored == []
    assert {name: (attackable / "reports" / name).read_bytes() for name in first} == first


def test_another_line_of_the_suite_attacks_only_with_that_line(attackable, monkeypatch):
    attack.run(replace(CONFIG, suite=SUITE[:2]))
    stored = []
    monkeypatch.setattr(Journal, "store", lambda journal, key, arrays: stored.append(key["attack"]))
    attack.run(replace(CONFIG, suite=(*SUITE[:2], AttackSpec(BIM(steps=2), (8,)))))
    assert set(stored) == {"bim"}


def test_the_seconds_of_each_attack_are_beside_the_reports_and_not_in_them(attackable):
    attack.run(CONFIG)
    assert set(timings.read(attackable / "reports").attacks) == {"fgsm@1/255", "fgsm@8/255", "pgd@4/255", "pgd-3@8/255"}
    assert "seconds" not in (attackable / "reports/robustness.json").read_text()


def test_a_class_of_which_no_picture_is_attacked_is_left_out_of_the_examples(attackable):
    attack.run(attack.AttackParams(records=1, batch_size=4, seed=7, subgroups={}, suite=SUITE[:1]))
    with (attackable / "reports/outcomes.csv").open() as file:
        (attacked,) = csv.DictReader(file)
    report = reports.read(RobustnessReport, attackable / "reports")
    (shown,) = illustrations.read(attackable / "reports", report.illustrations)
    assert [(each.id, each.truth) for each in shown.about.pictures] == [(attacked["id"], attacked["label"])]
    assert shown.clean.shape == shown.attacked.shape == (1, 32, 32, 3)
    assert 0 < np.abs(shown.attacked - shown.clean).max() <= 1 / 255 + 1e-6


def full_disk(*args):
    raise OSError("disk full")


def test_two_lines_of_one_name_are_refused_with_the_next_step():
    section = {"records": 0, "batch_size": 4, "seed": 7, "subgroups": {}}
    section["suite"] = [{"attack": "pgd", "radii": ["1/255"], "steps": steps} for steps in (10, 40)]
    with pytest.raises(ParamsError, match="give each its own `name"):
        params.parse("attack", attack.AttackParams, section)
    section["suite"][1]["name"] = "pgd-40"
    assert [spec.name for spec in params.parse("attack", attack.AttackParams, section).suite] == ["pgd", "pgd-40"]


@pytest.mark.parametrize(
    "line", [{"attack": "noise"}, {"attack": "square"}, {"attack": "deepfool"}], ids=lambda line: line["attack"]
)
def test_a_suite_that_the_sanity_checks_cannot_repeat_is_refused_before_it_runs(line):
    section = {"records": 0, "batch_size": 4, "seed": 7, "subgroups": {}, "suite": [{**line, "radii": ["1/255"]}]}
    with pytest.raises(
        ParamsError, match=rf"at least one white-box attack in the L-infinity norm .*got {line['attack']}"
    ):
        params.parse("attack", attack.AttackParams, section)
