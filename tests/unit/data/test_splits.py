import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.data import manifest, pictures, splits
from buckler.errors import DataError
from buckler.modality.base import Pair

pytestmark = pytest.mark.slow

SHARES = {"test": 0.3, "calibration": 0.1}


def frame_of(labels, groups=None, digests=None):
    rows = [
        {
            "id": f"{index:04}",
            "path": "",
            "sha256": digests[index] if digests else f"digest {index}",
            "label": label,
            "width": 8,
            "height": 8,
            "mode": "RGB",
            "bytes": 1,
            "source": "directory",
            "group": groups[index] if groups else "",
        }
        for index, label in enumerate(labels)
    ]
    return manifest.build(rows)


def assign(frame, seed=7, pairs=(), **shares):
    return splits.assign(frame, splits.group(frame, pairs), seed=seed, **{**SHARES, **shares})


def sizes(frame, assigned, label):
    return [int(((frame["label"] == label) & (assigned == name)).sum()) for name in pictures.SPLITS]


@pytest.mark.parametrize(
    ("count", "expected"), [(10, [6, 1, 3]), (400, [240, 40, 120]), (1440, [864, 144, 432]), (7, [4, 1, 2])]
)
def test_ungrouped_pictures_reach_the_shares_exactly_in_every_class(count, expected):
    frame = frame_of(["a"] * count + ["b"] * 20)
    assigned = assign(frame)
    assert sizes(frame, assigned, "a") == expected
    assert sizes(frame, assigned, "b") == [12, 2, 6]


def test_near_duplicates_lesions_and_identical_files_form_groups():
    frame = frame_of("aaaaaab", ["", "L1", "L1", "", "", "", ""], ["0", "1", "2", "3", "4", "3", "6"])
    groups = splits.group(frame, [Pair(0, 1, 2, 0.99), Pair(3, 6, 2, 0.99)])
    assert groups.tolist() == [0, 0, 0, 3, 4, 3, 3]


def test_another_seed_gives_another_split_of_the_same_sizes():
    frame = frame_of(["a", "b"] * 50)
    one, other = assign(frame, seed=1), assign(frame, seed=2)
    assert (one != other).any()
    assert sizes(frame, one, "a") == sizes(frame, other, "a")


@st.composite
def data_sets(draw):
    count = draw(st.integers(60, 120))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    groups = draw(st.lists(st.sampled_from(["", "", "", "L1", "L2", "L3"]), min_size=count, max_size=count))
    place = st.integers(0, count - 1)
    links = draw(st.lists(st.tuples(place, place), max_size=15))
    # Three quarters are ungrouped, so that every class can be in every split.
    groups = [group if index % 4 == 0 else "" for index, group in enumerate(groups)]
    labels = ["abc"[index % 3] if index < 45 else label for index, label in enumerate(labels)]
    pairs = [Pair(min(link), max(link), 0, 1.0) for link in links if link[0] != link[1]]
    return frame_of(labels, groups), pairs


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_groups_stay_together_whatever_the_order_of_rows(data_set, seed, random):
    frame, pairs = data_set
    groups = splits.group(frame, pairs)
    assigned = splits.assign(frame, groups, seed=seed, **SHARES)
    for group in np.unique(groups):
        assert len(set(assigned[groups == group])) == 1
    assert set(assigned) == set(pictures.SPLITS)

    order = list(range(len(frame)))
    random.shuffle(order)
    place = {row: new for new, row in enumerate(order)}
    moved = [Pair(place[pair.first], place[pair.second], 0, 1.0) for pair in pairs]
    shuffled = frame.iloc[order].reset_index(drop=True).assign(id="renamed")
    again = splits.assign(shuffled, splits.group(shuffled, moved), seed=seed, **SHARES)
    np.testing.assert_array_equal(again, assigned[order])


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.integers(0, 5))
def test_sizes_differ_from_the_shares_by_at_most_the_largest_group(data_set, seed):
    frame, pairs = data_set
    groups = splits.group(frame, pairs)
    assigned = splits.assign(frame, groups, seed=seed, **SHARES)
    largest = np.unique(groups, return_counts=True)[1].max()
    for label in manifest.labels(frame):
        total = int((frame["label"] == label).sum())
        for size, share in zip(sizes(frame, assigned, label), (0.6, 0.1, 0.3), strict=True):
            assert abs(size - share * total) <= largest + 1


def test_an_error_names_a_class_that_cannot_be_in_every_split():
    frame = frame_of(["a"] * 30 + ["b"] * 12, [""] * 30 + ["L1"] * 6 + ["L2"] * 6)
    with pytest.raises(DataError, match=r"expected pictures of class 'b' in every split, none for \["):
        assign(frame)


@pytest.mark.parametrize("shares", [{"test": 0}, {"calibration": 0}, {"test": 0.9}, {"test": -0.1}])
def test_shares_that_leave_a_split_empty_are_rejected(shares):
    with pytest.raises(DataError, match="expected shares above 0 for test and calibration, below 1 together"):
        assign(frame_of(["a", "b"] * 30), **shares)


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_components_are_the_connected_items(count, data):
    place = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(place, place), max_size=40))
    found = splits.components(count, links)
    reach = np.eye(count, dtype=bool)
    for one, other in links:
        reach[one, other] = reach[other, one] = True
    for _ in range(count):
        reach = reach @ reach
    np.testing.assert_array_equal(found, reach.argmax(axis=1))
