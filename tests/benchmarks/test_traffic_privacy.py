"""The bound of docs/adr/0033 on what stored traffic tells about single pictures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import traffic_privacy
from benchmarks.traffic_privacy import ATTACKS, Game
from buckler.serving.traffic_mixing import GROUP

AREA = 0.60  # 0.5 is chance
MORE_FOUND = 0.08  # share of the sent pictures, above chance


@pytest.fixture(scope="module")
def exact(real_data: Path):
    return traffic_privacy.served(str(real_data / "skin"), 640, seed=7)["none"]


def test_mixed_rows_of_real_pictures_tell_little_about_who_was_sent(exact):
    game = Game(candidates=500, sent=3 * GROUP, seeds=2)
    rows = {row["attack"]: row for row in traffic_privacy.matching(exact, game).rows}
    assert set(rows) == set(ATTACKS)
    # Unmixed, three statistics identify every picture.
    assert rows[ATTACKS[0]]["before_found"] == 1
    assert rows[ATTACKS[0]]["before_area"] == 1
    chance = game.sent / game.candidates
    for name, row in rows.items():
        assert row["after_area"] < AREA, name
        assert row.get("after_found", chance) < chance + MORE_FOUND, name


def test_the_attacks_find_what_is_there(exact):
    """Otherwise a bound on what they find would mean nothing: without noise the columns by themselves tell a lot."""
    candidates = traffic_privacy.table(exact[:400])
    order = np.random.default_rng(1).permutation(400)[: 2 * GROUP]
    shuffled = np.stack(
        [np.random.default_rng(number).permutation(column) for number, column in enumerate(candidates[order].T)], axis=1
    )
    found = traffic_privacy.attacked(candidates, order, shuffled)
    assert found[ATTACKS[3]][0] > 0.7
    assert found[ATTACKS[2]][0] < 0.9
