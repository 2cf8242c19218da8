"""The benchmark of engines, without those of the extra `bench`, which the tests do not install."""

import numpy as np
import pytest

from benchmarks import results, runtimes
from benchmarks.runtimes import measure
from buckler.errors import BucklerError
from buckler.models import runtime

PICTURES = np.linspace(0, 1, 8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 2, 2, 3), np.float32)


def brightness(scale):
    """An engine whose logit of class 1 grows with the brightness, ``scale`` times; and the list of its requests."""
    asked = []

    def ask(images):
        asked.append(float(images.mean()))
        return np.stack([np.zeros(len(images)), scale * (images.mean(axis=(1, 2, 3)) - 0.5)], axis=1)

    return ask, asked


def test_engines_take_turns_at_the_same_pictures_one_at_a_time():
    (first, by_first), (second, by_second) = brightness(4), brightness(4)
    measured = measure({"first": first, "second": second}, PICTURES, rounds=2)
    assert by_first == by_second
    assert len(by_first) == 1 + len(PICTURES)  # the first one warms up
    assert [result.engine for result in measured] == ["first", "second"]
    for result in measured:
        assert 0 < result.low <= result.images_per_second <= result.high
        assert (result.label_agreement, result.probability_gap) == (1.0, 0.0)


def test_answers_are_compared_with_those_of_the_first_engine():
    asked = {"reference": brightness(4)[0], "surer": brightness(8)[0], "upside down": brightness(-4)[0]}
    _, surer, upside_down = measure(asked, PICTURES, rounds=1)
    assert surer.label_agreement == 1.0
    assert surer.probability_gap > 0
    assert upside_down.label_agreement == pytest.approx(0.0)


def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(runtimes, "PACKAGES", ("numpy", "no_such_engine"))
    monkeypatch.setattr("sys.argv", ["runtimes", "--quick"])
    with pytest.raises(BucklerError, match=r"extra `bench` \(no_such_engine not installed\): run .*'.\[bench\]'"):
        runtimes.main()


@pytest.mark.slow
def test_a_quick_run_measures_the_tiny_network_in_every_installed_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "PACKAGES", ())
    monkeypatch.setattr(runtimes, "peers", lambda *_: iter(()))
    monkeypatch.setattr("sys.argv", ["runtimes", "--quick", "--out", str(tmp_path)])
    runtimes.main()
    written = results.read(tmp_path / "runtimes.json")
    rows = written.tables["engines"].rows
    assert rows[0]["engine"] == "keras float32"
    assert {f"openvino {precision}" for precision in runtime.native()} <= {row["engine"] for row in rows}
    assert all(row["images_per_second"].value > 0 for row in rows)
    assert written.settings["image_size"] == runtimes.QUICK_SIZE
