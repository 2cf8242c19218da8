import numpy as np
import pytest

from buckler.modality.picture import synthetic


def draw(label="benign", index=3, seed=7, size=32):
    return synthetic.draw(label, index, seed=seed, size=size)


def test_a_picture_is_float32_pixels_between_0_and_1():
    picture = draw(size=48)
    assert (picture.shape, picture.dtype) == ((48, 48, 3), np.float32)
    assert 0 <= picture.min() < picture.max() <= 1


def test_the_same_arguments_give_the_same_picture_in_any_order():
    first = [draw(index=index) for index in range(4)]
    again = [draw(index=index) for index in reversed(range(4))][::-1]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("change", [{"label": "malignant"}, {"index": 4}, {"seed": 8}])
def test_another_label_index_or_seed_gives_another_picture(change):
    assert np.abs(draw(**change) - draw()).mean() > 0.01


def test_a_picture_looks_the_same_at_every_size():
    large = draw(size=128).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(large.ravel(), draw(size=32).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("label", synthetic.LABELS)
@pytest.mark.parametrize("size", [32, 64])
def test_the_mask_is_where_the_same_picture_without_pigment_differs(label, size, monkeypatch):
    masks = [synthetic.lesion_mask(label, index, seed=7, size=size) for index in range(6)]
    seen = [draw(label, index, size=size) for index in range(6)]
    pigment = synthetic._pigment

    def transparent(picture, cover, *others):
        pigment(picture, cover, *others)  # takes the same random numbers
        return picture

    monkeypatch.setattr(synthetic, "_pigment", transparent)
    for index, (mask, picture) in enumerate(zip(masks, seen, strict=True)):
        assert (mask.shape, mask.dtype) == ((size, size), bool)
        darker = draw(label, index, size=size).mean(axis=2) - picture.mean(axis=2)
        assert darker[mask].mean() > 10 * abs(darker[~mask]).mean()
        # The soft edge reaches a little beyond the outline.
        assert (darker > 0.05)[mask].mean() > 0.9
        assert (darker > 0.05)[~mask].mean() < 0.12


@pytest.mark.parametrize(("label", "size", "message"), [("mole", 32, "expected a label"), ("benign", 8, "at least 16")])
def test_invalid_labels_and_sizes_are_rejected(label, size, message):
    with pytest.raises(ValueError, match=message):
        draw(label=label, size=size)
    with pytest.raises(ValueError, match=message):
        synthetic.lesion_mask(label, 3, seed=7, size=size)


def test_an_ideal_reader_reaches_the_stated_accuracy():
    rng = np.random.default_rng(5)
    right = 0
    for label in synthetic.LABELS:
        for _ in range(2000):
            criteria = synthetic.draw_criteria(label, rng)
            shares = np.array([criteria.asymmetry, criteria.border, criteria.colour, criteria.diameter])
            suspicious = np.log(shares / (1 - shares)).mean() > 0
            right += suspicious == (label == "malignant")
    assert right / 4000 == pytest.approx(synthetic.BAYES_ACCURACY, abs=0.02)
    assert 0.88 < synthetic.BAYES_ACCURACY < 0.92


def test_the_pixels_tell_the_classes_apart_but_not_perfectly():
    dark = {
        label: np.array([(draw(label, index).mean(axis=2) < 0.4).mean() for index in range(60)])
        for label in synthetic.LABELS
    }
    above = (dark["malignant"][:, None] > dark["benign"]).mean()
    assert 0.6 < above < 0.95
