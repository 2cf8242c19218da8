"""From calibration pictures to decisions: the stages `calibrate` and `detect`, the gate, and a released predictor."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from buckler.attacks.gradient import FGSM
from buckler.data import pictures
from buckler.detection.danger import harmless_scores
from buckler.detection.screening import Screening
from buckler.evaluation import reports
from buckler.evaluation.reports import DecisionsReport
from buckler.evaluation.suite import AttackSpec
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.radius import StatedRadius
from buckler.serving.predictor import Predictor
from buckler.trust.digests import directory_digest
from pipelines import calibrate, detect
from pipelines.settings import CalibrateParams
from tests import projects
from tests.forms import pictures_of

pytestmark = pytest.mark.slow

CALIBRATE = CalibrateParams(
    max_fpr=0.3,  # ten calibration pictures set the threshold at the largest of their scores
    confidence=0.95,
    stranger_margin=1.5,
    min_confidence=0.0,
    min_sensitivity=0.95,  # which the five malignant calibration pictures cannot show
    records=0,
    radii=(StatedRadius(2),),
    batch_size=4,
    seed=7,
)
DETECT = detect.DetectParams(
    records=2,
    strangers=2,
    batch_size=4,
    seed=7,
    suite=(AttackSpec(FGSM(), (2,)),),
    evasion=detect.EvasionParams(records=2, radii=(), steps=1, objectives=()),
)


@pytest.fixture
def balanced(attackable):
    """The working directory with a network that gives half of the ten pictures each label; its logits for them."""
    (attackable / "data/splits/train.csv").write_bytes(detect.TEST.read_bytes())
    test = pictures.load(detect.TEST, projects.LABELS, pictures_of(32))
    network = checkpoint.load_network(detect.CLASSIFIER)
    logits = Classifier(network, batch_size=4).forward(test.images).logits
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel, bias - [0, np.median(logits[:, 1] - logits[:, 0])]])
    checkpoint.save(network, checkpoint.load_info(detect.CLASSIFIER), detect.CLASSIFIER)
    clean = Classifier(network, batch_size=4).forward(test.images)
    passes = ((split, asdict(clean)) for split in ("test", "calibration"))
    np.savez(detect.CLEAN, **{f"{split}_{name}": array for split, found in passes for name, array in found.items()})
    np.savez(detect.ATTACKED, ids=np.array([], str))
    return clean.logits


def measured():
    projects.write_reports(
        detect.REPORTS, directory_digest(detect.CLASSIFIER), 80, 40, runtime=directory_digest(detect.RUNTIME)
    )
    detect.run(DETECT, 10)
    return reports.read(DecisionsReport, detect.REPORTS)


def test_without_enough_dangerous_pictures_every_harmless_answer_of_the_release_needs_review(
    attackable, balanced, capsys
):
    calibrate.run(CALIBRATE)
    assert "5 dangerous calibration pictures set no limit for calibrate.min_sensitivity 0.95, which needs 59" in (
        capsys.readouterr().out
    )
    found = measured()
    assert (found.danger.limit, found.danger.pictures, found.danger.missed) == (None, 5, 0)
    assert found.danger.sensitivity_low == pytest.approx(0.05 ** (1 / 5))
    assert found.with_limit.accepted_misses.value == 0.0
    assert found.with_limit.reasons["danger_not_excluded"].value == 0.5
    policy = replace(projects.LENIENT, max_detector_fpr=1.0)
    projects.build(attackable, policy=policy, runtime=detect.RUNTIME)
    predictor = Predictor.load(attackable / "models/release", projects.PUBLIC)
    answers = [predictor(pixels) for pixels in pictures.load(detect.TEST, projects.LABELS, pictures_of(32)).images]
    assert {answer.label for answer in answers} == set(projects.LABELS)
    for answer in answers:
        assert ("danger_not_excluded" in answer.reasons) == (answer.label == "benign")
        assert answer.decision == "review" or answer.label == "malignant"


def test_with_enough_of_them_the_limit_keeps_the_sensitivity_and_costs_fewer_reviews(attackable, balanced):
    calibrate.run(replace(CALIBRATE, min_sensitivity=0.5))
    screening, truth = Screening.load(detect.DETECTOR), pictures.truth_of(detect.TEST, projects.LABELS)
    assert (screening.dangerous, screening.min_sensitivity) == ((1,), 0.5)
    # At a sensitivity of one half, none of five pictures may be missed.
    scores = harmless_scores(balanced, screening.probabilities(balanced), (1,))
    assert screening.danger_limit == min(1.0, np.nextafter(scores[truth == 1].min(), 0))
    found = measured()
    assert (found.danger.limit, found.danger.missed, found.temperature) == (
        screening.danger_limit,
        0,
        screening.temperature,
    )
    flagged = scores > screening.danger_limit
    assert found.with_limit.reasons["danger_not_excluded"].value == (flagged & np.isfinite(scores)).mean()
    assert "danger_not_excluded" not in found.without_limit.reasons
    assert found.with_limit.accepted_misses.value == 0.0 < found.without_limit.accepted_misses.value
    assert sum(row.pictures for row in found.reliability) == 10
    assert sum(row.right for row in found.reliability) == (balanced.argmax(axis=1) == truth).sum()


def test_without_dangerous_labels_there_is_nothing_to_limit(attackable, balanced, capsys):
    info = checkpoint.load_info(detect.CLASSIFIER)
    checkpoint.save_info(replace(info, dangerous=()), detect.CLASSIFIER)
    calibrate.run(CALIBRATE)
    assert "set no limit" not in capsys.readouterr().out
    found = measured()
    assert found.danger is None
    assert (found.with_limit.accepted_misses, found.with_limit.dangerous_reviews) == (None, None)
    assert found.with_limit.reasons["danger_not_excluded"].value == 0.0


def test_the_report_has_the_same_bytes_after_a_second_run(attackable, balanced):
    calibrate.run(CALIBRATE)
    written = []
    for _ in range(2):
        measured()
        written.append((detect.REPORTS / DecisionsReport.FILE).read_bytes())
    assert written[0] == written[1]
