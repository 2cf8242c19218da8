"""Runs of near-identical pictures: searches are detected, ordinary pictures are not."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from buckler.attacks.base import Batch, LabelsOnly, ScoresOnly
from buckler.attacks.black_box import HopSkipJump
from buckler.attacks.square import Square
from buckler.modality.base import Radius
from buckler.modality.picture import images, synthetic
from buckler.serving.query_monitor import QueryMonitor, QueryRules
from tests.forms import PICTURE

SIZE = 64
RUN = QueryRules().run
WITHIN = 50  # queries

Pixels = NDArray[np.float32]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lesions(count: int) -> Iterator[Pixels]:
    for index in range(count):
        yield synthetic.draw(synthetic.LABELS[index % 2], index, seed=0, size=SIZE)


def as_sent(pixels: Pixels) -> Pixels:
    """Return pixels as a service gets them from an 8-bit PNG."""
    return images.load_pixels(images.to_png(pixels))


@pytest.fixture
def lesion() -> Pixels:
    return as_sent(next(lesions(1)))


@pytest.fixture
def watch() -> QueryMonitor:
    return QueryMonitor(secret=b"test")


def wobble(picture: Pixels, number: int) -> Pixels:
    """Return ``picture`` with a change of 2/255 that is unique to ``number``."""
    return picture + np.random.default_rng(number).choice([-2, 2], picture.shape).astype(np.float32) / 255


def sights(watch: QueryMonitor, pictures, client: str = "a") -> list[bool]:
    return [watch.observe(client, picture, PICTURE).in_run for picture in pictures]


def first_flagged(watch: QueryMonitor, search: Callable[[Callable[[Pixels], Pixels]], object]) -> int | None:
    """Return the index of the query of ``search`` that starts a run; None without one."""
    seen: list[bool] = []

    def brightness(asked: Pixels) -> Pixels:
        sent = np.stack([as_sent(each) for each in asked])
        seen.extend(sights(watch, sent))
        # Two classes, separated by the brightness in the middle, so that the search has a slope to follow.
        middle = sent[:, 16:48, 16:48].mean(axis=(1, 2, 3))
        return np.stack([middle, np.full_like(middle, 0.5)], axis=1).astype(np.float32)

    search(brightness)
    return seen.index(True) + 1 if any(seen) else None


@pytest.mark.parametrize("radius", [1, 4, 8])
def test_square_is_detected_within_fifty_queries(watch: QueryMonitor, lesion: Pixels, radius: int):
    truth = np.array([int(lesion[16:48, 16:48].mean() < 0.5)])
    flagged = first_flagged(
        watch,
        lambda scores: Square(queries=WITHIN, early_exit=False)(
            ScoresOnly(scores), Batch(lesion[None], truth), Radius(radius / 255)
        ),
    )
    assert flagged is not None
    assert RUN <= flagged <= WITHIN


def test_hop_skip_jump_is_detected_within_fifty_queries(watch: QueryMonitor, lesion: Pixels):
    truth = np.array([int(lesion[16:48, 16:48].mean() < 0.5)])
    flagged = first_flagged(
        watch,
        lambda scores: HopSkipJump(queries=WITHIN).search(
            LabelsOnly(lambda asked: scores(asked).argmax(axis=1), 2), Batch(lesion[None], truth)
        ),
    )
    assert flagged is not None
    assert flagged <= WITHIN


def test_different_lesions_of_the_demo_are_no_run(watch: QueryMonitor):
    assert not any(sights(watch, lesions(300)))


@pytest.mark.real_data
@pytest.mark.slow
def test_different_lesions_of_the_real_set_are_no_run_near_duplicates_included(watch: QueryMonitor, real_data: Path):
    paths = sorted((real_data / "skin").glob("*/*.jpg"))
    chosen = np.random.default_rng(0).choice(len(paths), min(len(paths), QueryRules().remember), replace=False)
    assert len(chosen) >= 500
    assert not any(sights(watch, (images.load_pixels(paths[index], size=SIZE) for index in chosen)))


def test_a_run_begins_with_its_twelfth_picture_and_is_one_attack(watch: QueryMonitor, lesion: Pixels):
    seen = [watch.observe("a", wobble(lesion, number), PICTURE) for number in range(RUN + 5)]
    assert [each.alike for each in seen] == list(range(1, RUN + 6))
    assert [each.in_run for each in seen] == [False] * (RUN - 1) + [True] * 6
    assert [each.begins for each in seen].count(True) == 1


def test_the_same_picture_sent_again_is_no_run(watch: QueryMonitor, lesion: Pixels):
    assert not any(sights(watch, [lesion] * 100))


def test_sending_each_picture_twice_does_not_clear_the_second(watch: QueryMonitor, lesion: Pixels):
    sights(watch, [wobble(lesion, number) for number in range(RUN)])
    assert watch.observe("a", wobble(lesion, RUN - 1), PICTURE).in_run


def test_pixels_shuffled_within_a_block_are_another_picture(watch: QueryMonitor, lesion: Pixels):
    def shuffled(number: int) -> Pixels:
        order = np.random.default_rng(number).permutation(4)
        rows = np.arange(SIZE).reshape(-1, 4)[:, order].reshape(-1)
        return lesion[rows]

    assert len({shuffled(number).tobytes() for number in range(60)}) > RUN
    assert any(sights(watch, [shuffled(number) for number in range(60)]))


def test_one_lesion_photographed_five_times_is_no_run(watch: QueryMonitor, lesion: Pixels):
    for other in lesions(40):
        sights(watch, [np.clip(other * light, 0, 1) for light in (0.9, 0.95, 1, 1.05, 1.1)])
    assert not watch.observe("a", lesion, PICTURE).in_run


def test_other_pictures_of_a_client_are_not_part_of_its_run(watch: QueryMonitor, lesion: Pixels):
    for number, other in zip(range(2 * RUN), lesions(3 * RUN), strict=False):
        watch.observe("a", wobble(lesion, number), PICTURE)
        assert not watch.observe("a", np.rot90(1 - other), PICTURE).in_run


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_rotated_or_mirrored_search_is_detected(watch: QueryMonitor, lesion: Pixels, turns: int, mirrored: bool):
    sights(watch, [wobble(lesion, number) for number in range(RUN)])
    turned = np.rot90(lesion[:, ::-1] if mirrored else lesion, turns)
    assert watch.observe("a", np.ascontiguousarray(turned), PICTURE).in_run


def test_a_search_with_other_brightness_is_detected(watch: QueryMonitor, lesion: Pixels):
    dimmer = lesion * np.float32(0.5)  # so that no pixel is clipped
    lights = np.linspace(0, 0.4, 2 * RUN, dtype=np.float32)
    assert any(sights(watch, [dimmer + light for light in lights]))


def test_clients_are_monitored_separately(watch: QueryMonitor, lesion: Pixels):
    for number in range(RUN - 1):
        watch.observe("a", wobble(lesion, number), PICTURE)
    assert not watch.observe("b", wobble(lesion, RUN), PICTURE).in_run
    assert watch.observe("a", wobble(lesion, RUN), PICTURE).in_run


def test_pictures_expire_after_the_window_and_a_later_run_counts_again(lesion: Pixels):
    clock = Clock()
    watch = QueryMonitor(clock=clock)
    seen = [watch.observe("a", wobble(lesion, number), PICTURE) for number in range(RUN)]
    clock.now += QueryRules().window_seconds + 1
    seen += [watch.observe("a", wobble(lesion, number), PICTURE) for number in range(RUN)]
    assert [each.begins for each in seen] == ([False] * (RUN - 1) + [True]) * 2


def test_the_stored_pictures_and_clients_are_limited(lesion: Pixels):
    watch = QueryMonitor(QueryRules(remember=RUN, clients=2))
    several = list(lesions(RUN))
    sights(watch, [wobble(lesion, number) for number in range(RUN - 1)], "a")
    sights(watch, several, "a")  # the ring is full of others
    assert watch.observe("a", wobble(lesion, RUN), PICTURE).alike <= 2

    sights(watch, [wobble(lesion, number) for number in range(RUN - 1)], "b")
    for client in ("c", "d"):
        watch.observe(client, lesion, PICTURE)
    assert watch.observe("b", wobble(lesion, RUN), PICTURE).alike == 1


def test_fingerprints_depend_on_the_secret_but_results_do_not(lesion: Pixels):
    pictures = [wobble(lesion, number) for number in range(RUN)]
    assert sights(QueryMonitor(secret=b"one"), pictures) == sights(QueryMonitor(secret=b"other"), pictures)
