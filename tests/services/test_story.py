"""The end of the demo, told about a small release by a real server of it."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from buckler.client import Client
from buckler.data import manifest
from buckler.errors import BucklerError
from buckler.modality.picture.images import load_pixels
from buckler.radius import StatedRadius
from buckler.trust.keys import PUBLIC_KEY_FILE, VERDICT_KEY_ENV
from infra.local import story
from infra.local.search import AWARE, UNSEEN, Found, Search
from infra.local.story import Asked, Story
from tests.services.running import IMAGE_SIZE, LABELS

pytestmark = pytest.mark.slow
COUNT = 24


@pytest.fixture(scope="module")
def project(tmp_path_factory, release) -> Path:
    """A directory with the release and test pictures: noise in colours of which the model is more and less sure."""
    root = tmp_path_factory.mktemp("story")
    (root / "models").mkdir()
    (root / "models/release").symlink_to(release)
    (root / "data/images").mkdir(parents=True)
    generator, rows = np.random.default_rng(5), []
    for number in range(COUNT):
        path = root / f"data/images/{number}.png"
        colour, noise = generator.integers(30, 226, 3), generator.integers(-25, 26, (IMAGE_SIZE, IMAGE_SIZE, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(path)
        about = {"id": path.name, "path": str(path), "label": LABELS[number % 2], "group": "", "source": "test"}
        content = path.read_bytes()
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "mode": "RGB"}
        rows.append({**about, **facts, "width": IMAGE_SIZE, "height": IMAGE_SIZE})
    (root / "data/splits").mkdir()
    manifest.write(manifest.build(rows), root / story.TEST)
    return root


@pytest.fixture
def here(project, keys, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))
    return project


def test_the_story_is_what_the_service_answers(here, server, capsys):
    story.run(server.url)
    said = capsys.readouterr().out
    written = json.loads((here / "reports/ask/answers.json").read_text())
    assert "{" not in said
    assert said.startswith((here / "reports/ask/story.txt").read_text())
    for kind in ("flipped", "missed"):
        found = written[kind]
        assert found["truth"] == found["clean"]["label"] == "malignant"
        assert found["attacked"]["label"] == "benign"
        files = [here / f"reports/ask/{kind}_{side}.png" for side in ("clean", "attacked")]
        before, after = (load_pixels(path, size=IMAGE_SIZE) for path in files)
        assert 0 < np.abs(after - before).max() <= StatedRadius(found["radius"]).number / 255 + 1e-6
        with Client(server.url) as service:
            again = service.predict((here / f"reports/ask/{kind}_attacked.png").read_bytes())
        assert again.probabilities == found["attacked"]["probabilities"]
        assert f"{found['name']}, a malignant picture, is answered malignant" in said
        assert f"benign {again.probabilities['benign']:.1%}" in said
    assert written["missed"]["attacked"]["decision"] == "accept"
    first, second, third = said.splitlines()[:3]
    assert (first[0], second[0], third[0]) == ("1", "2", "3")
    assert "FLIPPED to benign" in second
    assert "And one that slips through" in said
    assert re.search(
        r"of 12 malignant test pictures, \d+ are answered right and accepted, and all of them attacked", said
    )
    with Image.open(here / "reports/ask/triptych.png") as triptych:
        assert triptych.width > 300


def test_no_other_flip_within_an_unseen_change_has_two_surer_answers(here):
    search = Search.load(story.RELEASE, story.TEST)
    found, _ = search.run()
    assert found is not None
    assert found.radius <= UNSEEN

    def both(one: Found) -> float:
        clean, attacked = search.predictor(one.clean), search.predictor(one.attacked)
        return min(clean.probabilities["malignant"], attacked.probabilities["benign"])

    every = [
        other
        for radius in (StatedRadius(1), UNSEEN)
        for other, _ in search._turned(search._unaware, "PGD", radius, search.candidates.pictures)
    ]
    assert both(found) == max(map(both, every))
    assert len({both(one) for one in every}) > 1


def test_json_is_printed_only_on_request(here, server, capsys):
    story.run(server.url, show_json=True)
    said = capsys.readouterr().out
    assert json.loads(said[said.index("\n{") :]) == json.loads((here / "reports/ask/answers.json").read_text())


def test_a_service_with_another_model_is_an_error_after_a_while(server, monkeypatch):
    monkeypatch.setattr(story, "FOLLOW_SECONDS", 0.1)
    with Client(server.url) as service, pytest.raises(BucklerError, match=r"serves model .* with `buckler promote`"):
        story._wait_for(service, "sha256:other")


@pytest.fixture(scope="module")
def asked(project, keys, server) -> Asked:
    """The flipped picture and its answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv(VERDICT_KEY_ENV, str(keys / PUBLIC_KEY_FILE))
        search = Search.load(story.RELEASE, story.TEST)
        with Client(server.url) as service:
            made = story._ask(service, search.run()[0])
    assert made is not None
    return made


def answered(asked: Asked, **changes: object) -> Asked:
    return replace(asked, attacked=replace(asked.attacked, **changes))


def test_the_story_says_what_the_service_made_of_the_attack(asked):
    flagged = replace(asked.attacked.detector, score=9.5, threshold=4.0, verdict="adversarial")
    noticed = answered(asked, decision="review", reasons=("adversarial",), detector=flagged)
    assert story.told(Story(noticed, None, "rule", 3))[2] == (
        "3  The detector notices it (score 9.5, limit 4.0): review, a person must look at it"
    )
    unsure = answered(asked, decision="review", reasons=("low_confidence",))
    assert "does not notice it" in story.told(Story(unsure, None, "rule", 3))[2]
    assert story.told(Story(unsure, None, "rule", 3))[2].endswith("the answer goes to review: The model is not sure")
    assert "ACCEPT, a wrong answer without a warning" in story.told(Story(asked, None, "rule", 3))[2]


def test_a_small_change_is_called_invisible_and_a_large_one_is_not(asked):
    for radius, said in ((1, True), (2, True), (4, False), (8, False)):
        one = replace(asked, found=replace(asked.found, radius=StatedRadius(radius)))
        assert ("the eye cannot see" in story.told(Story(one, None, "rule", 3))[1]) is said


def test_the_story_says_how_many_were_tried_in_vain(asked):
    said = "\n".join(story.told(Story(None, None, "rule", 17)))
    assert "PGD within 8/255 flipped none of 17 pictures." in said
    assert f"None of 17 pictures slipped through: within 8/255 neither PGD nor {AWARE}" in said
    assert story.told(Story(None, None, "of 3 malignant test pictures, 0 are answered right", 0)) == [
        "No picture to tell about: of 3 malignant test pictures, 0 are answered right."
    ]
