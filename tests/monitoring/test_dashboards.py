"""The committed dashboards are those that the code builds, and Grafana's own library knows every field."""

import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import Dataquery

from monitoring.grafana import build
from tests.monitoring.queries import DASHBOARDS, panels

UIDS = ["buckler-drift", "buckler-jobs", "buckler-robustness", "buckler-serving"]


def decoded(path: Path) -> models.Dashboard:
    plugins.register_default_plugins()
    return models.Dashboard.from_json(json.loads(path.read_text()))


def subset(part: Any, whole: Any, place: str = "") -> list[str]:
    """Return the places where ``part`` differs from ``whole``; keys that only ``whole`` has are ignored."""
    if isinstance(part, dict) and isinstance(whole, dict):
        missing = [f"{place}.{key}" for key in part if key not in whole]
        return missing + [
            at for key in part.keys() & whole.keys() for at in subset(part[key], whole[key], f"{place}.{key}")
        ]
    if isinstance(part, list) and isinstance(whole, list) and len(part) == len(whole):
        return [at for i, (a, b) in enumerate(zip(part, whole, strict=True)) for at in subset(a, b, f"{place}[{i}]")]
    return [] if part == whole else [f"{place}: {part!r} became {whole!r}"]


def wrong_types(model: Any, place: str = "") -> list[str]:
    """Return the fields of a decoded model whose value is not of the type that Grafana's schema states."""
    found = []
    for name, wanted in typing.get_type_hints(type(model)).items():
        value = getattr(model, name, None)
        if not allowed(value, wanted):
            found.append(f"{place}.{name}: {value!r} is no {wanted}")
        for each in value if isinstance(value, list) else [value]:
            if hasattr(each, "to_json"):
                found += wrong_types(each, f"{place}.{name}")
    return found


def allowed(value: Any, wanted: Any) -> bool:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any or wanted is object or isinstance(wanted, typing.TypeVar):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(allowed(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(allowed(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(allowed(each, arguments[1]) for each in value.values())
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return value in [each.value for each in wanted]
    if wanted is float:
        return isinstance(value, int | float)
    return isinstance(value, wanted)


def test_there_are_four_dashboards_with_fixed_uids():
    assert [path.stem for path in DASHBOARDS] == UIDS
    assert [json.loads(path.read_text())["uid"] for path in DASHBOARDS] == UIDS


@pytest.mark.parametrize(("path", "text"), list(build.files()), ids=lambda value: getattr(value, "stem", ""))
def test_the_committed_file_is_what_the_code_builds(path: Path, text: str):
    assert path.read_text() == text, "run `make dashboards`"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_library_knows_every_field_and_value(path: Path):
    board = decoded(path)
    again = json.loads(json.dumps(board, cls=JSONEncoder))
    assert subset(json.loads(path.read_text()), again) == []
    assert wrong_types(board) == []
    assert all(
        isinstance(target, Dataquery) for panel in board.panels for target in getattr(panel, "targets", None) or []
    )


def test_an_unknown_field_and_a_wrong_value_are_detected(tmp_path: Path):
    content = json.loads(DASHBOARDS[0].read_text())
    content["panels"][1]["options"] |= {"colourMode": "value", "graphMode": "none", "textMode": "largest"}
    content["panels"][1]["gridPos"]["w"] = "4"
    (tmp_path / "bad.json").write_text(json.dumps(content))
    board = decoded(tmp_path / "bad.json")
    assert subset(content, json.loads(json.dumps(board, cls=JSONEncoder))) == [".panels[1].options.colourMode"]
    places = [fault.split(":")[0] for fault in wrong_types(board)]
    assert sorted(places) == [".panels.grid_pos.w", ".panels.options.text_mode"]


@pytest.mark.parametrize(("title", "panel"), list(panels()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_panel_has_a_description_and_queries_the_chosen_prometheus(title: str, panel: dict[str, Any]):
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_fill_whole_rows_and_do_not_overlap(path: Path):
    board = json.loads(path.read_text())
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert {x for x, _ in taken} == set(range(24))
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
