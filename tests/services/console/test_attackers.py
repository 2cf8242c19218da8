"""The attacks of the console's panel, on a small network with random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from buckler.errors import BucklerError
from buckler.modality.picture import images, synthetic
from buckler.radius import StatedRadius
from services.console import attackers
from services.console.attackers import (
    ATTACKERS,
    FGSM,
    INFORMED,
    LIMIT_SECONDS,
    NOISE,
    PGD,
    RADII,
    Progress,
    StoppedError,
)
from tests import screenings
from tests.forms import square

pytestmark = pytest.mark.slow

SIZE = 32


@pytest.fixture(scope="module")
def model(module_tmp_path: Path) -> Path:
    """A network and its detector, which flags nothing."""
    from buckler.models import checkpoint
    from buckler.models.classifier import Classifier
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY

    network = TINY.build(square(SIZE), 2, head=HeadShape((8,)), seed=7)
    info = checkpoint.ModelInfo(
        ("benign", "malignant"), ("malignant",), square(SIZE), "sha256:test", architecture="tiny"
    )
    checkpoint.save(network, info, module_tmp_path)
    pictures = np.random.default_rng(7).uniform(size=(40, SIZE, SIZE, 3)).astype(np.float32)
    screenings.fit(Classifier(network), pictures, np.arange(40) % 2, min_confidence=0.5).save(module_tmp_path)
    return module_tmp_path


@pytest.fixture(scope="module")
def reference(model: Path) -> attackers.Reference:
    return attackers.load(model, "sha256:test")


@pytest.fixture(scope="module")
def lesion() -> np.ndarray:
    """A picture as the decoder returns it, which the network gives the label of its class by a narrow margin."""
    return images.load_pixels(images.to_png(synthetic.draw("malignant", 0, seed=1, size=SIZE)))


def craft(reference, attacker, pixels, radius, progress=None):
    progress = progress or Progress(attacker.passes)
    return attackers.craft(reference, attacker, pixels, radius, progress), progress.done


def label_of(reference, pixels):
    return int(reference.classifier.logits(pixels[None]).argmax())


def score_of(reference, pixels):
    return float(reference.screening.detector.score(reference.classifier.forward(pixels[None]))[0])


def screened(model, directory, screening):
    """Return the reference of the network in ``model`` with other thresholds."""
    for file in model.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    screening.save(directory)
    return attackers.load(directory, "sha256:stricter")


def warnings(reference, pixels):
    _, flags = reference.screening.flags(pixels[None], reference.classifier.forward(pixels[None]))
    return {str(reason) for reason, found in flags.items() if found[0]}


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda each: each.name)
def test_every_attack_stays_within_the_radius_in_whole_levels_and_within_its_passes(
    reference, lesion, attacker, radius
):
    attacked, passes = craft(reference, attacker, lesion, radius)
    levels = (attacked - lesion) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert np.abs(np.rint(levels)).max() == StatedRadius(radius).number
    assert passes <= attacker.passes
    assert (passes == 0) == (attacker == NOISE)


def test_the_attacks_change_the_answer_and_random_noise_of_the_same_size_does_not(reference, lesion):
    before = label_of(reference, lesion)
    labels = {each.name: label_of(reference, craft(reference, each, lesion, 8)[0]) for each in (NOISE, PGD, INFORMED)}
    assert {name: label == before for name, label in labels.items()} == {"noise": True, "pgd": False, "informed": False}


def test_who_knows_the_detector_stays_below_a_threshold_that_flags_pgd(reference, model, lesion, tmp_path):
    flagged, _ = craft(reference, PGD, lesion, 8)
    stricter = screened(model, tmp_path, replace(reference.screening, threshold=score_of(reference, flagged) - 0.05))
    assert score_of(stricter, flagged) > stricter.screening.threshold
    evading, _ = craft(stricter, INFORMED, lesion, 8)
    assert label_of(stricter, evading) != label_of(stricter, lesion)
    assert score_of(stricter, evading) <= stricter.screening.threshold


def test_who_knows_the_limits_reaches_an_answer_without_a_warning(reference, model, lesion, tmp_path):
    unsure, _ = craft(reference, PGD, lesion, 8)
    stricter = screened(model, tmp_path, replace(reference.screening, danger_limit=0.44))
    assert warnings(stricter, unsure) == {"danger_not_excluded"}
    sure, _ = craft(stricter, INFORMED, lesion, 8)
    assert label_of(stricter, sure) != label_of(stricter, lesion)
    assert warnings(stricter, sure) == set()


def test_who_knows_more_is_never_weaker(reference, lesion):
    # No search succeeds at once where nothing is below the threshold: then PGD's result is the best there is.
    nothing_below = replace(reference, screening=replace(reference.screening, threshold=-1e9))
    pgd, passes = craft(nothing_below, PGD, lesion, 8)
    informed, all_passes = craft(nothing_below, INFORMED, lesion, 8)
    assert label_of(reference, pgd) != label_of(reference, lesion)
    assert label_of(reference, informed) != label_of(reference, lesion)
    assert all_passes > passes


def test_a_model_that_answers_at_random_has_no_attacker_who_knows_the_detector(model, lesion, tmp_path):
    from buckler.models.info import load_info, save_info

    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_info(replace(load_info(model), defence="randomised"), tmp_path)
    randomised = attackers.load(tmp_path, "sha256:randomised")
    with pytest.raises(BucklerError, match="at random before it answers"):
        craft(randomised, INFORMED, lesion, 2)
    assert craft(randomised, FGSM, lesion, 2)[1] == 1


def test_a_stopped_attack_ends_at_its_next_gradient(reference, lesion):
    progress = Progress(PGD.passes)
    progress.stop()
    with pytest.raises(StoppedError, match="another attack was started"):
        craft(reference, PGD, lesion, 2, progress)
    assert progress.done == 0


def test_an_attack_ends_when_its_time_is_over(reference, lesion):
    now = iter([0.0, *range(0, 1000, 25)])
    progress = Progress(PGD.passes, clock=lambda: next(now))
    progress.start()
    with pytest.raises(StoppedError, match="took longer than 60 s"):
        craft(reference, PGD, lesion, 1, progress)
    assert progress.done == LIMIT_SECONDS // 25 + 1
