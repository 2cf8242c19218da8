"""Sanity checks: could the numbers of an evaluation be an illusion? A failed check fails the gate.

Source: Carlini et al., "On evaluating adversarial robustness", arXiv 1902.06705, sec. 4 and 5; Athalye, Carlini &
Wagner, "Obfuscated gradients give a false sense of security", arXiv 1802.00420, sec. 3.1; the warnings of AutoAttack
(flags_doc.md of its repository), Croce & Hein, arXiv 2003.01690.
"""

from buckler.evaluation.sanity.base import Check
from buckler.evaluation.sanity.table import CHECKS, doubt

__all__ = ["CHECKS", "Check", "doubt"]
