"""The modalities by name. A new one is a folder with a module ``modality`` that defines ``MODALITY``."""

import pkgutil
from functools import cache
from importlib import import_module

from buckler import modality
from buckler.errors import ParamsError
from buckler.modality.base import Modality


@cache
def names() -> tuple[str, ...]:
    """Return the names of all modalities."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(modality.__path__) if found.ispkg))


@cache
def find(name: str) -> Modality:
    """Return the modality called ``name``, which loads its code.

    Raises:
        ParamsError: There is no such modality.
    """
    if name not in names():
        raise ParamsError(f"expected one of the modalities {', '.join(names())}, got {name!r}")
    found = import_module(f"{modality.__name__}.{name}.modality").MODALITY
    if not isinstance(found, Modality):
        raise TypeError(f"expected a Modality in buckler.modality.{name}.modality, got {type(found).__name__}")
    return found
