import json

import pytest
from pydantic import TypeAdapter, ValidationError

from buckler.errors import ParamsError
from buckler.modality.base import LEVELS, RadiusUnit
from buckler.radius import StatedRadius, check_ascending

MILLIMETRES = RadiusUnit(200, " mm", 400)


@pytest.mark.parametrize(
    ("stated", "text", "number", "unit"),
    [
        ("4/255", "4/255", 4, "/255"),
        ("0.50 mm", "0.5 mm", 0.5, " mm"),
        (8, "8/255", 8, "/255"),  # of a report that has no units
        ("12", "12/255", 12, "/255"),
        ("20 uV", "20 uV", 20, " uV"),
    ],
)
def test_a_radius_is_a_text_with_number_and_unit(stated, text, number, unit):
    radius = StatedRadius(stated)
    assert (radius, radius.number, radius.unit) == (text, number, unit)
    assert json.loads(json.dumps({radius: [radius]}, sort_keys=True)) == {text: [text]}


@pytest.mark.parametrize("stated", ["", "mm", "-1/255", "1.5.2 mm", "1e3", True, None, "one"])
def test_what_is_no_radius_is_refused(stated):
    with pytest.raises(ValueError, match="expected a radius such as 4/255, a number and its unit, got"):
        StatedRadius(stated)


def test_radii_are_ordered_by_number_not_by_text():
    radii = [StatedRadius(text) for text in ("16/255", "4/255", "400/255", "8/255")]
    assert sorted(radii) == ["4/255", "8/255", "16/255", "400/255"]
    assert max(radii) == "400/255"
    assert StatedRadius("8/255") <= StatedRadius("16/255") <= StatedRadius("16/255")


@pytest.mark.parametrize("radii", [(), ("2/255", "1/255"), ("1/255", "1/255"), ("0/255",), ("1/255", "2 mm")])
def test_radii_of_a_line_ascend_in_one_unit(radii):
    with pytest.raises(ValueError, match="expected ascending radii above 0 in one unit, got"):
        check_ascending([StatedRadius(each) for each in radii])


def test_settings_and_documents_hold_the_text():
    floors = TypeAdapter(dict[StatedRadius, float])
    read = floors.validate_python({"1/255": 0.3, 2: 0.2})
    assert [(radius.number, share) for radius, share in read.items()] == [(1, 0.3), (2, 0.2)]
    assert floors.validate_json(floors.dump_json(read)) == read
    with pytest.raises(ValidationError, match="expected a radius such as 4/255"):
        floors.validate_python({"wide": 0.3})


def test_a_unit_gives_the_size_in_units_of_the_input_and_in_steps_of_the_grid():
    assert LEVELS.radius(StatedRadius("51/255")).value == 0.2
    assert MILLIMETRES.radius(MILLIMETRES.stated(5)).value == 0.025
    assert MILLIMETRES.grid_steps(StatedRadius("5 mm")) == 10
    with pytest.raises(ParamsError, match="expected a radius in the unit of the modality, as 1 mm, got 5/255"):
        MILLIMETRES.radius(StatedRadius("5/255"))
