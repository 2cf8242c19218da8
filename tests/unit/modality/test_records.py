"""Records of numbers: what is read, what is refused and named, and that a file keeps the values."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableInputError
from buckler.modality.base import RadiusUnit
from buckler.modality.records import Channel, NumberRecords

SHAPE = (4, 2)
GOOD = {"flow": [0, 1.5, 10, 2.25], "volume": [-1, 0, 1, 0.5]}


class Breath(NumberRecords):
    name = "breath"
    channels = (Channel("flow", 0.0, 10.0, "l/s"), Channel("volume", -1.0, 1.0, "l"))
    unit = RadiusUnit(100, " %", 1000)
    labels = ("calm", "short")

    def generate(self, label, index, seed, size):
        return np.full(self.shape(size), 0.25 + 0.5 * self.labels.index(label), np.float32)


BREATH = Breath()


def read(record):
    return BREATH.load(json.dumps(record).encode(), SHAPE)


def test_numbers_are_scaled_from_the_range_of_their_channel():
    np.testing.assert_allclose(read(GOOD), [[0, 0], [0.15, 0.5], [1, 1], [0.225, 0.75]], atol=1e-6)


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not():
    schema = dict(BREATH.schema(SHAPE))
    Draft202012Validator.check_schema(schema)
    accepts = Draft202012Validator(schema).is_valid
    assert accepts(GOOD)
    for wrong in (
        GOOD | {"flow": [0, 1.5, 10.5, 2.25]},
        GOOD | {"volume": [0, 1, 0]},
        GOOD | {"pressure": [0] * 4},
        {"flow": GOOD["flow"]},
    ):
        assert not accepts(wrong)
        with pytest.raises(UnusableInputError):
            read(wrong)


def test_numbers_between_two_steps_of_the_instrument_get_the_nearest():
    np.testing.assert_allclose(read(GOOD | {"flow": [0, 1.504, 1.506, 2.25]})[:3, 0], [0, 0.15, 0.151], atol=1e-6)


def test_a_file_keeps_every_value_of_the_grid():
    values = BREATH.unit.values_of(np.random.default_rng(0).integers(0, 1001, (500, 2)).astype(np.uint16))
    np.testing.assert_array_equal(BREATH.load(BREATH.to_file(values), values.shape), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"flow": [NaN, 1, 2, 3], "volume": [0, 0, 0, 0]}', "expected JSON"),
        (b'{"flow": [1, 1, 2, 3], "flow": [1, 1, 2, 3]}', "each name once"),
        (b"[1, 2]", "expected a JSON object with a list of numbers for each channel, got list"),
        (json.dumps({"flow": GOOD["flow"]}).encode(), r"misses \['volume'\]"),
        (json.dumps(GOOD | {"name": "Erika"}).encode(), "has 1 others"),
        (json.dumps(GOOD | {"flow": "1 2 3 4"}).encode(), "expected a list of numbers in 'flow'"),
        (json.dumps(GOOD | {"flow": [True, 1, 2, 3]}).encode(), "expected a list of numbers in 'flow'"),
        (json.dumps(GOOD | {"flow": [1e999, 1, 2, 3]}).encode().replace(b"Infinity", b"1e999"), "number 1 is outside"),
        (
            json.dumps(GOOD | {"volume": [0, 0, -1.1, 0]}).encode(),
            "expected 'volume' of -1 to 1 l, number 3 is outside",
        ),
        (json.dumps(GOOD | {"flow": [1, 2, 3]}).encode(), r"as many numbers in each channel, got \[3, 4\]"),
        (json.dumps({"flow": [1, 2], "volume": [0, 0]}).encode(), "expected 4 numbers in each channel, got 2"),
    ],
)
def test_a_bad_record_is_refused_and_the_message_names_it(content, message):
    with pytest.raises(UnusableInputError, match=message) as caught:
        BREATH.load(content, SHAPE)
    assert caught.value.code == ErrorCode.RECORD_INVALID
    assert "Erika" not in str(caught.value)


def test_a_record_has_no_frames():
    with pytest.raises(UnusableInputError, match="without frames"):
        BREATH.receive(json.dumps(GOOD).encode(), SHAPE, frame=2)


def test_harmless_changes_and_strangers_stay_on_the_grid():
    images, generator = BREATH.references(3, SHAPE, 1), np.random.default_rng(2)
    changed = [change(images, generator) for change in BREATH.evaluation_changes.values()]
    drawn = [draw(3, SHAPE, 5) for draw in BREATH.strangers.values()]
    for each in (images, *changed, *drawn):
        np.testing.assert_array_equal(each, BREATH.unit.values_of(BREATH.unit.steps_of(each)))
        assert (each.shape, each.min() >= 0, each.max() <= 1) == ((3, *SHAPE), True, True)
    assert np.abs(changed[0] - images).max() * 1000 == pytest.approx(1, abs=0.01)
