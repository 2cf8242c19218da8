"""How the benchmark of engines counts; the engines that were not chosen are not installed with the tests."""

import numpy as np
import pytest

from benchmarks.runtimes import measure

PICTURES = np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 2, 2, 3), np.float32)


def brightness(scale):
    """An engine that calls bright pictures 1, the surer the larger ``scale``; it notes what it is asked."""
    asked = []

    def ask(images):
        asked.append(float(images.mean()))
        return np.stack([np.zeros(len(images)), scale * (images.mean(axis=(1, 2, 3)) - 0.5)], axis=1)

    return ask, asked


def test_engines_take_turns_at_the_same_pictures_one_at_a_time():
    (first, by_first), (second, by_second) = brightness(4), brightness(4)
    results = measure({"first": first, "second": second}, PICTURES, rounds=2)
    assert by_first == by_second
    assert len(by_first) == 1 + len(PICTURES)  # one warms up
    assert [result.engine for result in results] == ["first", "second"]
    for result in results:
        assert 0 < result.low <= result.images_per_second <= result.high
        assert (result.label_agreement, result.probability_gap) == (1.0, 0.0)


def test_answers_are_held_to_those_of_the_first_engine():
    asked = {"reference": brightness(4)[0], "surer": brightness(8)[0], "upside down": brightness(-4)[0]}
    _, surer, upside_down = measure(asked, PICTURES, rounds=1)
    assert surer.label_agreement == 1.0
    assert surer.probability_gap > 0
    assert upside_down.label_agreement == pytest.approx(0.0)
