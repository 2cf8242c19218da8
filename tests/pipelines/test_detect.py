"""The stage on the tiny network."""

import numpy as np
import pytest

from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.data import pictures
from buckler.evaluation import reports
from buckler.evaluation.reports import DetectorReport
from buckler.evaluation.suite import AttackSpec
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.radius import StatedRadius
from buckler.state import documents
from pipelines import detect
from tests import projects, screenings
from tests.forms import pictures_of

pytestmark = pytest.mark.slow

CONFIG = detect.DetectParams(
    records=4,
    strangers=2,
    batch_size=4,
    seed=7,
    suite=(AttackSpec(FGSM(), (2, 8)), AttackSpec(PGD(steps=2), (8,))),
    evasion=detect.EvasionParams(records=3, radii=(StatedRadius(2),), steps=2, objectives=("joint", "camouflage")),
)


def test_the_report_has_the_suite_the_attacks_that_stop_at_the_boundary_and_the_evasions(attackable):
    test = pictures.load(detect.TEST, projects.LABELS, pictures_of(32))
    classifier = Classifier(checkpoint.load_network(detect.CLASSIFIER), batch_size=4)
    screenings.fit(classifier, test.images, test.truth).save(detect.DETECTOR)
    chosen = np.array([6, 1])
    answers = classifier.forward(test.images[chosen])
    facts = {"fgsm.attack": np.array("fgsm"), "fgsm.stops_at_boundary": np.array(False)}
    facts |= {"late.attack": np.array("pgd"), "late.stops_at_boundary": np.array(True)}
    cells = {
        f"{name}@4/255{suffix}": array
        for name in ("fgsm", "late")
        for suffix, array in (("", answers.features), (".logits", answers.logits))
    }
    np.savez(detect.ATTACKED, ids=np.array([test.ids[i] for i in chosen]), **facts, **cells)
    detect.run(CONFIG, 10)
    report = reports.read(DetectorReport, attackable / "reports")
    rows = [(row.attack, row.radius, row.stops_at_boundary, row.adaptive) for row in report.attacks]
    assert rows == [
        ("fgsm", "2/255", False, False),
        ("fgsm", "8/255", False, False),
        ("pgd", "8/255", False, False),
        ("late", "4/255", True, False),
        ("pgd-joint", "2/255", True, True),
        ("pgd-camouflage", "2/255", True, True),
    ]
    worst = {row.radius: row for row in report.worst}
    assert worst["2/255"].adaptive_wrong_and_unflagged.pictures == 3
    assert worst["2/255"].auc.attack == "fgsm"
    assert worst["4/255"].auc is None
    assert worst["8/255"].adaptive_wrong_and_unflagged is None
    late = report.attacks[3]
    assert late.wrong.pictures == 2
    assert late.wrong.value == float(np.mean(answers.logits.argmax(axis=1) != test.truth[chosen]))
    points = documents.read_csv(attackable / "reports/curves/detector_roc.csv")
    plotted = {(point["attack"], point["radius"]) for point in points}
    assert plotted == {
        ("fgsm", "2/255"),
        ("fgsm", "8/255"),
        ("pgd", "8/255"),
    }
