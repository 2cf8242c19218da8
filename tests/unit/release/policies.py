"""The policy that the tests of the gate share."""

from collections.abc import Callable, Sequence

from buckler.release.policy import Policy
from buckler.trust.approval import Signatures

POLICY = Policy(
    min_clean_accuracy=0.7,
    min_robust_accuracy={1: 0.3},
    min_malignant_recall=0.6,
    min_robust_sensitivity={1: 0.3},
    min_robust_specificity={1: 0.2},
    min_subgroup_clean_accuracy=0.6,
    min_subgroup_robust_accuracy={1: 0.2},
    min_subgroup_records=10,
    max_margin_of_error=0.15,
    max_calibration_error=0.2,
    max_accepted_misses=0.05,
    max_detector_fpr=0.1,
    max_detector_subgroup_fpr=0.2,
    min_detector_auc={2: 0.9},
    max_evaded={2: 0.4},
    allowed_warnings=("mostly_colour", "no_repeated_files"),
    max_quarantined=1.0,
    min_class_records=1,
    regression_alpha=0.05,
    valid_days=30,
    signatures=Signatures(0, {}),
)


def dangerous_of(*malignant: str) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """Return what finds the ``malignant`` ones of some labels."""
    return lambda labels: tuple(label for label in labels if label in malignant)
