"""How a folder tells the class and the group of its pictures: by folders, or by columns of its table."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from buckler import findings
from buckler.data.csv_table import CsvTable
from buckler.data.names import class_key, is_readable, is_unknown
from buckler.errors import DataError

Value = str | int | float
Classes = Mapping[str, Mapping[str, Sequence[Value]]]

_SHOWN: Final = 20  # values of a column listed in an error


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the classes and groups of pictures come from.

    Attributes:
        classes: Class -> column of the table -> values. A row has the class if each of the columns has one of its
            values; numbers are compared as numbers, texts without regard to case. Empty: one folder for each class.
        group: Column of the table: pictures with the same value stay in one split. Empty: the table has no such column.
        several: Whether a row may have several of ``classes``, or none: they are then findings, see `buckler.findings`.
    """

    classes: Classes = field(default_factory=dict)
    group: str = "lesion_id"
    several: bool = False

    def __post_init__(self) -> None:
        """Reject classes that no table can have."""
        if self.classes and len(self.classes) < 2 and not self.several:
            raise ValueError(f"classes: expected at least two classes, or {{}}, got {list(self.classes)}")
        for key, count in Counter(map(class_key, self.classes)).items():
            same = [label for label in self.classes if class_key(label) == key]
            if not key or not all(map(is_readable, same)):
                raise ValueError(f"classes: expected names without control characters, got {same[0]!a}")
            if count > 1:
                raise ValueError(f"classes: {same} differ only in case, blanks, separators or Unicode form")
        if self.several and (unfit := [name for name in self.classes if not findings.is_name(name)]):
            raise ValueError(f"classes: expected names of findings without '+', not {findings.NO_FINDING}, got {unfit}")
        for label, columns in self.classes.items():
            if not columns or not all(columns.values()):
                raise ValueError(
                    f"classes.{label}: expected columns with values, such as {{grade: [2, 3]}}, got "
                    f"{ {name: list(values) for name, values in columns.items()} }"
                )

    @property
    def columns(self) -> list[str]:
        """Return the columns by which the classes are defined."""
        return list(dict.fromkeys(name for columns in self.classes.values() for name in columns))

    def labels(self, table: CsvTable) -> list[str | None]:
        """Return the class of each row of ``table``; None for a row that has none.

        Where several are allowed, a row that fits none has no finding, and one with an unknown value has no class: it
        may have any.

        Raises:
            DataError: The table lacks a column or a value, a class has no row, or a row has several classes and must
                not.
        """
        rules = {label: _rule(label, columns, table) for label, columns in self.classes.items()}
        fitting = [_fitting(row, rules) for row in table.rows]
        for label in rules:
            if not any(label in fits for fits in fitting):
                raise DataError(
                    f"expected rows of the class {label!r} in {table.where}, none has a value of data.classes.{label} "
                    "in each of its columns"
                )
        if self.several:
            places = table.places(self.columns).values()
            unknown = [any(is_unknown(row[place]) for place in places) for row in table.rows]
            return [None if skip else findings.label_of(fits) for skip, fits in zip(unknown, fitting, strict=True)]
        return [
            _only(number, row, fits, table.where)
            for (number, row), fits in zip(enumerate(table.rows, 1), fitting, strict=True)
        ]


def value_key(value: Value) -> str:
    """Return the key of a value: values with equal keys are the same, such as ``2``, ``2.0`` and `` 2``."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return class_key(text)
    return repr(number) if math.isfinite(number) else class_key(text)


_Rule = Mapping[int, frozenset[str]]  # place of a column -> keys of the values that fit


def _rule(label: str, columns: Mapping[str, Sequence[Value]], table: CsvTable) -> _Rule:
    places = table.places(columns)
    for name, values in columns.items():
        there = Counter(row[places[name]].strip() for row in table.rows)
        known = set(map(value_key, there))
        absent = [value for value in values if value_key(value) not in known]
        if absent:
            raise DataError(
                f"data.classes.{label}: expected values of the column {name!r} of {table.where}, got {absent}; it has "
                f"{_listed(there)}"
            )
    return {places[name]: frozenset(map(value_key, values)) for name, values in columns.items()}


def _fitting(row: Sequence[str], rules: Mapping[str, _Rule]) -> list[str]:
    return [
        label for label, rule in rules.items() if all(value_key(row[place]) in keys for place, keys in rule.items())
    ]


def _only(number: int, row: Sequence[str], fitting: Sequence[str], where: str) -> str | None:
    if len(fitting) > 1:
        raise DataError(
            f"expected each row of {where} to fit at most one class of data.classes, row {number} "
            f"({', '.join(row[:3])}, ...) fits {' and '.join(fitting)}; set data.several_labels to true "
            "if a record may have several"
        )
    return fitting[0] if fitting else None


def _listed(values: Counter[str]) -> str:
    """Return the most frequent ``values`` with their numbers."""
    shown = ", ".join(f"{text!r} ({count})" for text, count in values.most_common(_SHOWN))
    return shown + f" and {len(values) - _SHOWN} more" * (len(values) > _SHOWN)
