"""Doubts about an evaluation: each check asks whether the numbers could be an illusion. A failed one fails the gate.

Source: Carlini et al., "On evaluating adversarial robustness", arXiv 1902.06705; Athalye, Carlini & Wagner,
"Obfuscated gradients give a false sense of security", arXiv 1802.00420.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from buckler.attacks.table import ATTACKS
from buckler.evaluation.robustness import Cell
from buckler.models.classifier import GradientClassifier, Images, Labels

# Untargeted, in FGSM's ball, and with more gradients: these have no excuse. Others may rightly be weaker.
STRONGER_THAN_FGSM = frozenset({"bim", "pgd", "mifgsm", "apgd-ce", "apgd-margin"})
TOLERANCE = 0.02  # in robust accuracy: a weaker attack may win by so much through chance


@dataclass(frozen=True, slots=True)
class Check:
    """One doubt and how it came out."""

    name: str
    passed: bool
    detail: str


def check_model(classifier: GradientClassifier, images: Images, labels: Labels) -> list[Check]:
    """Return the checks of the network itself, on a few pictures ``(n, height, width, 3)``."""
    first, second = classifier.logits(images), classifier.logits(images)
    gradient, _ = classifier.loss_gradient(images, labels)
    flat = ~np.any(gradient != 0, axis=(1, 2, 3))
    like_probabilities = bool(np.all(first >= 0) and np.allclose(first.sum(axis=1), 1, atol=1e-3))
    difference = float(np.abs(first - second).max())
    return [
        Check(
            "logits_not_probabilities",
            not like_probabilities,
            f"outputs between {first.min():.3f} and {first.max():.3f}, rows sum to {first.sum(axis=1).mean():.3f}",
        ),
        Check("deterministic_forward", difference == 0, f"two passes differ by at most {difference:.3g}"),
        Check(
            "gradients_not_zero",
            not flat.any(),
            f"{int(flat.sum())} of {len(images)} pictures have no gradient at all",
        ),
    ]


def check_cells(cells: Sequence[Cell]) -> list[Check]:
    """Return the checks among the attacks' results: the control weaker than FGSM, FGSM weaker than its heirs.

    FGSM overshoots as the radius grows, so what counts for it is its best radius up to the one compared.
    """
    checks = []
    fgsm = {cell.epsilon_255: cell.robust_accuracy.value for cell in cells if cell.attack == "fgsm"}
    for cell in cells:
        rivals = [value for radius, value in fgsm.items() if radius <= cell.epsilon_255]
        control = ATTACKS[cell.attack].control
        if not rivals or not (control or cell.attack in STRONGER_THAN_FGSM):
            continue
        accuracy, rival = cell.robust_accuracy.value, min(rivals)
        checks.append(
            Check(
                f"{cell.attack}_{'not_stronger_than' if control else 'at_least'}_fgsm_at_{cell.epsilon_255}",
                accuracy >= rival - TOLERANCE if control else accuracy <= rival + TOLERANCE,
                f"robust accuracy {accuracy:.3f} under {cell.attack}, {rival:.3f} under fgsm "
                f"up to {cell.epsilon_255}/255",
            )
        )
    return checks
