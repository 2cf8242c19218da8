"""The attacks by name, as ``params.yaml`` and reports call them."""

import math
from typing import Any

from pydantic import TypeAdapter, ValidationError

from buckler.attacks import autopgd, black_box, fab, gradient, iterative, l2, minimal, noise, square, universal
from buckler.attacks.base import Attack
from buckler.models.gradients import GradientClassifier

# Attacks that need less of a model than gradients run on it, too.
AnyAttack = Attack[GradientClassifier]

ATTACKS: dict[str, type[AnyAttack]] = {
    attack.name: attack
    for attack in (
        *gradient.ATTACKS,
        *iterative.ATTACKS,
        *l2.ATTACKS,
        *minimal.ATTACKS,
        *autopgd.ATTACKS,
        *fab.ATTACKS,
        *square.ATTACKS,
        *black_box.ATTACKS,
        *universal.ATTACKS,
        *noise.ATTACKS,
    )
}


def build(name: str, **settings: Any) -> AnyAttack:
    """Return the attack ``name`` with ``settings``.

    Raises:
        ValueError: There is no such attack or setting, a value has the wrong type or is out of range, or a required
            setting is missing.
    """
    if not isinstance(name, str) or name not in ATTACKS:
        raise ValueError(f"expected an attack of {sorted(ATTACKS)}, got {name!r}")
    kind = ATTACKS[name]
    known = kind.setting_names()
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{name}: expected settings of {known}, got {unknown}")
    endless = sorted(key for key, value in settings.items() if isinstance(value, float) and not math.isfinite(value))
    if endless:
        raise ValueError(f"{name}: expected finite numbers, got {endless} {settings[endless[0]]}")
    if kind.targeted and settings.get("target") is None:
        raise ValueError(f"expected a target class for {name}, got none")
    try:
        return TypeAdapter(kind).validate_python(settings)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, (name, *f['loc'])))}: {f['msg']}, got {f['input']!r}" for f in error.errors()]
        raise ValueError("; ".join(faults)) from error
