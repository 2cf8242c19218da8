"""Attacks on classifiers, loaded when they are first used: ``buckler.attacks.PGD(steps=10)(model, batch, radius)``.

``ATTACKS`` has every attack by name; ``build`` makes one from its name and settings. This project imports from the
modules below, so that a pipeline stage depends only on the attacks that it runs. The types are in ``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "buckler.attacks.adaptive": ("Expectation", "StraightThrough", "Unsaturated"),
    "buckler.attacks.autopgd": ("APGDCrossEntropy", "APGDMargin"),
    "buckler.attacks.base": ("Attack", "Batch", "LabelsOnly", "ScoresOnly"),
    "buckler.attacks.black_box": ("HopSkipJump", "transfer"),
    "buckler.attacks.fab": ("FAB",),
    "buckler.attacks.gradient": ("FGSM", "FGV", "RFGSM", "FGSMLeastLikely", "FGSMTargeted"),
    "buckler.attacks.iterative": ("BIM", "MIFGSM", "PGD", "BIMLeastLikely", "BIMTargeted"),
    "buckler.attacks.l2": ("FGML2", "PGDL2"),
    "buckler.attacks.minimal": ("LBFGS", "CarliniWagner", "DeepFool"),
    "buckler.attacks.noise": ("Noise",),
    "buckler.attacks.square": ("Square",),
    "buckler.attacks.table": ("ATTACKS", "build"),
    "buckler.attacks.universal": ("Universal",),
    "buckler.modality.base": ("Radius",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
