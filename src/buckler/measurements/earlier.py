"""Measurements of versions that knew pictures only: their radii are numbers without a unit."""

from collections.abc import Mapping
from typing import Any

from buckler.radius import StatedRadius


def with_stated_radii(old: Any) -> Any:
    """Return the document ``old`` with each ``epsilon_255`` as ``radius`` or ``radii``, texts with their unit."""
    if isinstance(old, Mapping):
        return dict(_stated(name, with_stated_radii(value)) for name, value in old.items())
    return [with_stated_radii(each) for each in old] if isinstance(old, list) else old


def _stated(name: str, value: Any) -> tuple[str, Any]:
    if name != "epsilon_255":
        return name, value
    if isinstance(value, list):
        return "radii", [StatedRadius(each) for each in value]
    return "radius", StatedRadius(value)


def with_units(floor: Any) -> Any:
    """Return a floor of a policy; if it has a share for each radius, these are texts with their unit."""
    if not isinstance(floor, Mapping):
        return floor
    return {StatedRadius(name) if str(name).isdigit() else name: share for name, share in floor.items()}
