"""Radii as people state them. Without numpy: reports are read without it."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_TEXT = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>(/[0-9]+| \S.*)?)")
_OF_PICTURES = "/255"
_PATTERN = r"^[0-9]+(\.[0-9]+)?(/[0-9]+| \S.*)$"  # in JSON


class StatedRadius(str):
    """A radius as people state it: a text such as ``4/255``, a number of at least 0 and the suffix of its unit.

    Settings, reports, metrics and columns hold this text. Radii are ordered by number.
    """

    __slots__ = ()

    def __new__(cls, stated: object) -> Self:
        """Return the radius of a text.

        A number without a unit is in 1/255: reports of earlier versions, which knew pictures only, have no unit.

        Raises:
            ValueError: There is no such radius.
        """
        if isinstance(stated, cls):
            return stated
        found = None if isinstance(stated, bool) else _TEXT.fullmatch(str(stated).strip())
        if not found:
            raise ValueError(f"expected a radius such as 4/255, a number and its unit, got {stated!r}")
        return super().__new__(cls, f"{float(found['number']):g}{found['unit'] or _OF_PICTURES}")

    @property
    def number(self) -> float:
        """Return the number."""
        return float(self._parts["number"])

    @property
    def unit(self) -> str:
        """Return the `RadiusUnit.suffix` of the modality."""
        return self._parts["unit"]

    @property
    def _parts(self) -> re.Match[str]:
        return cast(re.Match[str], _TEXT.fullmatch(self))

    def _key(self) -> tuple[float, str]:
        return self.number, self.unit

    def __lt__(self, other: str) -> bool:
        return self._key() < other._key() if isinstance(other, StatedRadius) else super().__lt__(other)

    def __le__(self, other: str) -> bool:
        return self._key() <= other._key() if isinstance(other, StatedRadius) else super().__le__(other)

    def __gt__(self, other: str) -> bool:
        return self._key() > other._key() if isinstance(other, StatedRadius) else super().__gt__(other)

    def __ge__(self, other: str) -> bool:
        return self._key() >= other._key() if isinstance(other, StatedRadius) else super().__ge__(other)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by construction; JSON has a text, also as the key of a mapping."""
        return core_schema.json_or_python_schema(
            json_schema=core_schema.no_info_after_validator_function(cls, core_schema.str_schema(pattern=_PATTERN)),
            python_schema=core_schema.no_info_plain_validator_function(cls),
            serialization=core_schema.to_string_ser_schema(when_used="always"),
        )


def check_ascending(radii: Sequence[StatedRadius]) -> None:
    """Raise ValueError unless the ``radii``, at least one, ascend from above 0 and have one unit."""
    ascending = all(one.number < following.number for one, following in pairwise(radii))
    if not radii or radii[0].number <= 0 or not ascending or len({one.unit for one in radii}) > 1:
        raise ValueError(f"expected ascending radii above 0 in one unit, got {', '.join(map(str, radii)) or 'none'}")


NO_ATTACK = StatedRadius(0)  # where results without attack are beside those at radii
