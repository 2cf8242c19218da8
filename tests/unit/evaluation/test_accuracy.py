import numpy as np
import pytest

from buckler.evaluation import accuracy
from buckler.evaluation.statistics import wilson

LABELS, DANGEROUS = ("benign", "malignant"), ("malignant",)


def logits_of(*shares):
    return np.log(np.array([[1 - share, share] for share in shares], np.float32))


def test_report_counts_what_a_person_would_count():
    truth = np.array([0, 0, 1, 1])
    result = accuracy.evaluate(logits_of(0.1, 0.6, 0.7, 0.9), truth, labels=LABELS, dangerous=DANGEROUS)
    assert result.clean_accuracy.value == 0.75
    assert result.confusion == [[1, 1], [0, 2]]
    assert result.malignant_recall.value == 1.0
    assert result.roc_auc == 1.0
    assert result.balanced_accuracy.value == 0.75
    assert result.classes["malignant"].precision == pytest.approx(2 / 3)
    assert result.classes["benign"].support == 2


def test_the_classes_rates_have_intervals_and_none_where_nothing_was_guessed():
    truth = np.array([0, 0, 1, 1])
    result = accuracy.evaluate(logits_of(0.1, 0.6, 0.7, 0.9), truth, labels=LABELS, dangerous=DANGEROUS)
    assert result.classes["malignant"].precision_interval == wilson(2, 3).interval
    assert result.classes["benign"].recall_interval == wilson(1, 2).interval
    assert all(b.accuracy_interval[0] <= b.accuracy <= b.accuracy_interval[1] for b in result.reliability)
    never = accuracy.evaluate(logits_of(0.1, 0.2, 0.3, 0.4), truth, labels=LABELS, dangerous=DANGEROUS)
    assert never.classes["malignant"].precision_interval is None


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    truth = np.array([1, 1, 1, 0])
    result = accuracy.evaluate(logits_of(0.75, 0.75, 0.75, 0.75), truth, labels=LABELS, dangerous=DANGEROUS)
    assert result.calibration_error == pytest.approx(0.0, abs=1e-6)
    assert accuracy.evaluate(
        logits_of(0.99, 0.99, 0.99, 0.99), truth, labels=LABELS, dangerous=DANGEROUS
    ).calibration_error == pytest.approx(0.24, abs=1e-5)


def test_a_dangerous_label_for_another_dangerous_one_is_no_miss():
    labels = ("bcc", "mel", "nv")
    rate = accuracy.danger_recall(np.array([1, 2, 2]), np.array([0, 1, 2]), labels, ("bcc", "mel"))
    assert rate.value == 0.5


def test_without_dangerous_labels_there_is_no_danger_recall():
    assert accuracy.danger_recall(np.array([0]), np.array([0]), ("a", "b"), ()) is None


def test_more_than_two_classes_have_an_auc_with_and_without_dangerous_labels():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]] * 4
    truth = np.array([0, 1, 2, 0, 1, 2])
    for dangerous in ((), ("a", "b")):
        found = accuracy.evaluate(logits, truth, labels=("a", "b", "c"), dangerous=dangerous)
        assert found.roc_auc == 1.0
        assert (found.roc_auc_interval is None) == (not dangerous)


def test_a_rare_class_counts_in_the_balanced_accuracy_as_much_as_a_frequent_one():
    truth = np.array([0] * 90 + [1] * 10)
    found = accuracy.balanced_accuracy(np.zeros(100, np.int64), truth)
    assert found.value == 0.5
    assert found.low < 0.5 < found.high
    assert found.pictures == 100


def test_the_rates_of_a_finding_count_every_set_with_it():
    labels = ("a", "a+b", "b", "no_finding")
    guesses, truth = np.array([0, 1, 2, 3, 1, 0]), np.array([0, 1, 1, 3, 2, 3])
    logits = np.log(np.where(np.eye(4)[guesses] == 1, 0.7, 0.1)).astype(np.float32)
    found = accuracy.finding_rows(logits, truth, labels, ("a", "b"))
    assert found["a"].sensitivity == wilson(2, 3)  # of a, a+b, a+b
    assert found["a"].specificity == wilson(1, 3)  # of none, b, none
    assert found["b"].sensitivity == wilson(3, 3)
    assert found["b"].specificity == wilson(3, 3)
    assert found["b"].roc_auc == 1.0
    everywhere = accuracy.finding_rows(logits[:3], truth[:3], labels, ("a",))["a"]
    assert (everywhere.roc_auc, everywhere.roc_auc_interval, everywhere.specificity) == (None, None, None)
