from buckler.measurements.earlier import with_stated_radii, with_units
from buckler.radius import StatedRadius


def test_radii_without_a_unit_are_read_as_those_of_pictures():
    old = {"cells": [{"name": "pgd", "epsilon_255": 2}], "attack": {"epsilon_255": [1, 16]}, "count": 3}
    now = with_stated_radii(old)
    assert now == {"cells": [{"name": "pgd", "radius": "2/255"}], "attack": {"radii": ["1/255", "16/255"]}, "count": 3}
    assert now["cells"][0]["radius"] < now["attack"]["radii"][1]
    assert with_stated_radii(now) == now


def test_floors_without_a_unit_are_read_as_those_of_pictures():
    assert with_units({"1": 0.3, "16": 0.2}) == {StatedRadius("1/255"): 0.3, StatedRadius("16/255"): 0.2}
    assert with_units({"0.5 mm": 0.3}) == {"0.5 mm": 0.3}
    assert with_units({"required": 0, "keys": {}}) == {"required": 0, "keys": {}}
    assert with_units(0.7) == 0.7
