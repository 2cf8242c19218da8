"""The tables of a detector's report."""

from dataclasses import replace

import pytest

from benchmarks import detector, results
from benchmarks.detector import adaptive, attacks, clean
from benchmarks.tables import markdown
from buckler.evaluation import reports
from buckler.evaluation.reports import MeasuredModel
from buckler.measurements.detection import BenignChange, DetectedAttack, FlaggedSubgroup, Strangers, WorstDetection
from buckler.measurements.results import Rate
from buckler.radius import StatedRadius
from tests import projects

RATE = Rate(0.05, 0.01, 0.1, 100)
FEW = replace(RATE, value=0.9, pictures=80)
REPORT = projects.detector(MeasuredModel("sha256:0", "sha256:1", "sha256:2")).model_copy(
    update={
        "clean_flagged": {"adversarial": RATE, "any": replace(RATE, value=0.07)},
        "subgroups": (FlaggedSubgroup("label", "malignant", RATE),),
        "harmless": (BenignChange("noise_2", 0.5, RATE),),
        "foreign": (Strangers("text", replace(RATE, value=1.0), {"adversarial": RATE}),),
        "attacks": tuple(
            DetectedAttack(
                attack=name,
                norm=norm,
                radius=StatedRadius(2),
                stops_at_boundary=stops,
                adaptive=knows_detector,
                auc=0.987,
                tpr_at_fpr={"0.01": 0.5, "0.05": 0.93},
                tpr_at_fpr_interval={},
                flagged=RATE,
                wrong=FEW if knows_detector else replace(FEW, pictures=120),
                wrong_and_unflagged=RATE,
                steps=40,
            )
            for name, norm, knows_detector, stops in (
                ("pgd", "linf", False, False),
                ("fab", "linf", False, True),
                ("pgd-joint", "linf", True, True),
                ("pgd-selective", "linf", True, True),
                ("pgd_l2", "l2", False, False),
            )
        ),
        "worst": (
            WorstDetection(StatedRadius(1), None, RATE, None),
            WorstDetection(StatedRadius(2), None, RATE, replace(RATE, value=0.08)),
        ),
    }
)


def test_the_tables_show_flagged_pictures_and_successful_attacks():
    lines = [*markdown(clean(REPORT)).split("\n"), *markdown(attacks(REPORT)).split("\n")]
    assert "| clean | 5.0% (1.0% to 10.0%) | 7.0% (1.0% to 10.0%) |" in lines
    assert "| no dermoscopy: text | 5.0% (1.0% to 10.0%) | 100.0% (1.0% to 10.0%) |" in lines
    assert "| pgd 2/255 | 0.987 | 93% | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert "| fab 2/255, stops at the boundary | 0.987 |  | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert "| pgd-joint 2/255, knows the detector | 0.987 |  | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert any(line.startswith("| pgd_l2 2/255 (l2) |") for line in lines)


def test_the_adaptive_table_has_the_radii_at_which_the_attacker_who_knows_the_detector_was_run():
    assert markdown(adaptive(REPORT)).split("\n") == [
        "| PGD that knows the detector, best of 2 objectives | wrong and unflagged (95 % interval) |",
        "|---|---|",
        "| 2/255 | 8.0% (1.0% to 10.0%) |",
    ]


@pytest.mark.parametrize(
    ("keep_adaptive", "tables", "remark"),
    [
        (
            True,
            {"clean", "attacks", "adaptive"},
            "100 clean and 120 attacked test pictures; 80 for the attacker who knows the detector, 40 steps each; "
            "scored in float32.",
        ),
        (False, {"clean", "attacks"}, "100 clean and 120 attacked test pictures; scored in float32."),
    ],
)
def test_a_measurement_writes_all_tables_of_its_page_the_command_and_the_numbers_of_pictures(
    tmp_path, monkeypatch, keep_adaptive, tables, remark
):
    rows = tuple(row for row in REPORT.attacks if keep_adaptive or not row.adaptive)
    reports.write(REPORT.model_copy(update={"attacks": rows}), tmp_path / "hardened")
    report = tmp_path / "hardened/detector.json"
    arguments = ["--report", str(report), "--name", "detector_hardened", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["detector", *arguments])
    detector.main()
    written = results.read(tmp_path / "detector_hardened.json")
    assert set(written.tables) == tables
    assert written.measured.remark == remark
    assert written.command == f"python -m benchmarks.detector --report {report} --name detector_hardened"
