"""Evasions of the query monitor on two small pictures."""

import pytest

from benchmarks import query_evasions
from buckler.errors import BucklerError
from buckler.modality.picture import images, synthetic


def test_a_plain_attack_is_detected_and_one_with_large_changes_is_not():
    pictures = [images.load_pixels(images.to_png(synthetic.draw("benign", n, seed=0, size=64))) for n in range(2)]
    rows = {row.change: row for row in query_evasions.run(pictures, epsilon=8 / 255, queries=60)}
    assert rows["none"].noticed_ratio == 1
    assert rows["none"].first <= query_evasions.WITHIN
    assert rows["none"].flagged_ratio > 0.5
    assert rows["quarter turns and mirroring"].noticed_ratio == 1
    assert rows["noise of 16/255 on 4 x 4 tiles"] == query_evasions.EvasionResult(
        "noise of 16/255 on 4 x 4 tiles", 0, 0, None, 0
    )


def test_a_folder_without_pictures_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["query_evasions", "--images", str(tmp_path)])
    with pytest.raises(BucklerError, match="found none"):
        query_evasions.main()
