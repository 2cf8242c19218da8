"""Typed access to params.yaml: unknown and missing keys are errors; a profile sets several values at once."""

import dataclasses
import io
import stat
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from buckler.errors import ParamsError
from buckler.radius import StatedRadius, check_ascending
from buckler.state import files

PARAMS_FILE = Path("params.yaml")
FILE_PREFIX = "file:"  # of train.network and data.restore, before the path of what was trained elsewhere

Section = TypeVar("Section")


def _no_truth(value: object) -> object:
    """Reject true and false, which Python would take for the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")
    return value


def _ascending(radii: tuple[StatedRadius, ...]) -> tuple[StatedRadius, ...]:
    check_ascending(radii)
    return radii


# Types of values in a section, which `load` and `parse` check.
_MOST = 1_000_000_000  # libraries compute with it without overflow
Whole = Annotated[int, Field(strict=True, ge=0, le=_MOST)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_truth)]
Count = Annotated[Whole, Field(ge=1)]
CountOrAll = Whole  # 0 takes all
Number = Annotated[Real, Field(ge=0, le=_MOST)]
Positive = Annotated[Real, Field(gt=0, le=_MOST)]
Radii = Annotated[tuple[StatedRadius, ...], AfterValidator(_ascending)]
Seed = Whole
Share = Annotated[Real, Field(ge=0, le=1)]
Between = Annotated[Real, Field(gt=0, lt=1)]  # a share that is neither nothing nor everything
Mostly = Annotated[Real, Field(ge=0.5, lt=1)]  # a share that a protection must keep


def load(section: str, cls: type[Section], path: Path = PARAMS_FILE) -> Section:
    """Return ``section`` of ``path`` as the frozen dataclass ``cls``.

    Raises:
        ParamsError: The file or section is missing, a key is missing or unknown, or a value has the wrong type.
    """
    return parse(section, cls, read(path).get(section), path)


def parse(section: str, cls: type[Section], values: object, path: Path = PARAMS_FILE) -> Section:
    """Check ``values`` against the dataclass ``cls``; errors name ``path`` and ``section``."""
    if not isinstance(values, Mapping):
        raise ParamsError(f"{path.name}: expected a section {section!r} with keys, got {values!r}")
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    missing = sorted(
        name
        for name, field in known.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    unknown = sorted(set(values) - set(known), key=str)
    if missing or unknown:
        faults = [f"misses {missing}"] * bool(missing) + [f"does not know {unknown}"] * bool(unknown)
        raise ParamsError(f"{path.name}: section {section!r} {', '.join(faults)}")
    return _checked(section, TypeAdapter(cls), dict(values), path)


def value(section: str, key: str, kind: Any, path: Path = PARAMS_FILE) -> Any:
    """Return one value of ``section``, of the type ``kind``, for who does not need the others.

    Raises:
        ParamsError: As `load`.
    """
    values = read(path).get(section)
    if not isinstance(values, Mapping) or key not in values:
        raise ParamsError(f"{path.name}: section {section!r} misses {[key]}")
    return _checked(f"{section}.{key}", TypeAdapter(kind), values[key], path)


def _checked(name: str, adapter: TypeAdapter[Section], values: object, path: Path) -> Section:
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, (name, *fault['loc'])))}: {fault['msg']}, got {fault['input']!r}"
            for fault in error.errors()
        ]
        raise ParamsError(f"{path.name}: {'; '.join(faults)}") from error


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the content of ``path`` as plain Python values.

    Raises:
        ParamsError: The file is missing or invalid.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError as error:
        raise ParamsError(f"no {path.name} in {path.parent.resolve()}; run from the project's root") from error
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path.name} is not UTF-8 ({error}); save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ParamsError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path.name}: expected sections, got {type(values).__name__}")
    return values


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys without a word; here they are an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of ``node``."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {twice[0]!r}", node.start_mark)
        return super().construct_mapping(node, deep)


def file_of(setting: str) -> Path | None:
    """Return the path in ``setting``, a value of ``train.network`` or ``data.restore``; None if it is a name."""
    return Path(setting.removeprefix(FILE_PREFIX)) if setting.startswith(FILE_PREFIX) else None


def apply_profile(name: str, overrides: Mapping[str, Any], path: Path = PARAMS_FILE) -> None:
    """Write the values of the profile ``name``, then those of ``overrides``, to ``path``; comments are kept.

    Args:
        name: A key of the section ``profiles``, whose values are ``section.key: value``.
        overrides: Further values, for example ``{"data.path": "/srv/pictures", "detect.evasion.steps": 20}``.
        path: The params.yaml.

    Raises:
        ParamsError: There is no such profile, or a key is not in params.yaml.
    """
    from ruamel.yaml import YAML  # not installed with the service

    editor = YAML()
    editor.preserve_quotes = True
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.width = 4096  # do not wrap lines: only values may change
    values = _profile(read(path), name, path)  # plain values: the editor's values carry comments
    document = editor.load(path)
    for key, value in {**values, **overrides}.items():
        place, entry = _place_of(document, key, f"profile {name!r}", path)
        place[entry] = _in_place(place[entry], value)
    text = io.StringIO()
    editor.dump(document, text)
    files.write(path.resolve(), text.getvalue().encode(), mode=stat.S_IMODE(path.stat().st_mode))


def with_profile(name: str | None, overrides: Mapping[str, Any], path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the content of ``path`` as if the profile ``name``, if any, and ``overrides`` had been applied.

    Raises:
        ParamsError: As `read` and `apply_profile`.
    """
    content = read(path)
    for key, value in {**(_profile(content, name, path) if name else {}), **overrides}.items():
        place, entry = _place_of(content, key, f"profile {name!r}" if name else "--set", path)
        place[entry] = value
    return content


def _profile(content: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    profiles = content.get("profiles")
    known = {str(key): values for key, values in profiles.items()} if isinstance(profiles, Mapping) else {}
    if not isinstance(known.get(name), Mapping):
        raise ParamsError(f"{path.name}: no profile {name!r}; there are {sorted(known)}")
    return dict(known[name])


def _place_of(document: Any, key: str, who: str, path: Path) -> tuple[dict[str, Any], str]:
    """Return the mapping of ``document`` that has the last part of ``key``, and that part."""
    *sections, entry = key.split(".")
    place = document
    for section in sections:
        place = place.get(section, {}) if isinstance(place, dict) else {}
    if not isinstance(place, dict) or entry not in place:
        raise ParamsError(f"{path.name}: {who} sets {key!r}, which the file lacks")
    return place, entry


def _in_place(old: Any, new: Any) -> Any:
    """Return ``new``; lists and mappings are changed in place, because ``old`` carries comments and style."""
    if isinstance(old, (list, dict)) and not old:
        old.fa.set_flow_style()  # type: ignore[union-attr]  # ruamel loses the style of empty ones
    if isinstance(old, list) and isinstance(new, list):
        old[:] = [_in_place(a, b) for a, b in zip_longest(old[: len(new)], new)]
        return old
    if isinstance(old, dict) and isinstance(new, Mapping):
        merged = {key: _in_place(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(merged)
        return old
    return new
