import numpy as np

from buckler.data import masks


def test_masks_are_read_as_they_were_written(tmp_path):
    written = {name: np.random.default_rng(i).random((5, 7)) > 0.5 for i, name in enumerate(("a/1.png", "b/1.png"))}
    for name, mask in written.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(masks.to_png(mask))
    for found, name in zip(masks.load(["b/1.png", "a/1.png"], tmp_path), ("b/1.png", "a/1.png"), strict=True):
        assert found.dtype == bool
        np.testing.assert_array_equal(found, written[name])


def test_without_a_mask_for_every_picture_there_are_none(tmp_path):
    (tmp_path / "1.png").write_bytes(masks.to_png(np.ones((2, 2), bool)))
    assert masks.load(["1.png", "2.png"], tmp_path) is None
