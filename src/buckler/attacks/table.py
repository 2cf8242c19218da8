"""The attacks by name, behind one call: pictures in, one set of adversarial pictures a radius out."""

from buckler.attacks import autopgd, black_box, fab, gradient, iterative, l2, minimal, noise, square, universal
from buckler.attacks.base import Attack

ATTACKS: dict[str, Attack] = {
    **gradient.ENTRIES,
    **iterative.ENTRIES,
    **l2.ENTRIES,
    **minimal.ENTRIES,
    **autopgd.ENTRIES,
    **fab.ENTRIES,
    **square.ENTRIES,
    **black_box.ENTRIES,
    **universal.ENTRIES,
    **noise.ENTRIES,
}
