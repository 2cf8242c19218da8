"""The attacks by name, behind one call: pictures in, one set of adversarial pictures a radius out."""

from buckler.attacks import gradient, iterative, noise
from buckler.attacks.base import Attack

ATTACKS: dict[str, Attack] = {**gradient.ENTRIES, **iterative.ENTRIES, **noise.ENTRIES}
