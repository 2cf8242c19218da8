from benchmarks.detector import attacks, clean
from benchmarks.tables import markdown

RATE = {"value": 0.05, "low": 0.01, "high": 0.1, "pictures": 100}
REPORT = {
    "clean_flagged": {"adversarial": RATE, "any": {**RATE, "value": 0.07}},
    "subgroups": [{"column": "label", "group": "malignant", "clean_fpr": RATE}],
    "harmless": [{"change": "noise_2", "auc": 0.5, "flagged": RATE}],
    "foreign": [{"kind": "text", "flagged": {**RATE, "value": 1.0}, "reasons": {"adversarial": RATE}}],
    "attacks": [
        {
            "attack": name,
            "norm": norm,
            "epsilon_255": 2,
            "adaptive": adaptive,
            "stops_at_boundary": stops,
            "auc": 0.987,
            "tpr_at_fpr": {"0.01": 0.5, "0.05": 0.93},
            "wrong": {**RATE, "value": 0.9},
            "wrong_and_unflagged": RATE,
        }
        for name, norm, adaptive, stops in (
            ("pgd", "linf", False, False),
            ("fab", "linf", False, True),
            ("pgd-joint", "linf", True, True),
            ("pgd_l2", "l2", False, False),
        )
    ],
}


def test_the_tables_say_what_is_flagged_and_what_gets_past():
    lines = [*markdown(clean(REPORT)).split("\n"), *markdown(attacks(REPORT)).split("\n")]
    assert "| clean | 5.0% (1.0% to 10.0%) | 7.0% (1.0% to 10.0%) |" in lines
    assert "| no dermoscopy: text | 5.0% (1.0% to 10.0%) | 100.0% (1.0% to 10.0%) |" in lines
    assert "| pgd 2/255 | 0.987 | 93% | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert "| fab 2/255, stops at the boundary | 0.987 |  | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert "| pgd-joint 2/255, knows the detector | 0.987 |  | 90.0% | 5.0% (1.0% to 10.0%) |" in lines
    assert any(line.startswith("| pgd_l2 2/255 (l2) |") for line in lines)
