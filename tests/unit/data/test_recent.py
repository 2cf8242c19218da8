import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from buckler.data import recent
from buckler.errors import DataError
from tests import projects
from tests.forms import pictures_of

LABELS = ("benign", "malignant")


@pytest.fixture
def root(tmp_path):
    """Three benign pictures and a malignant one, one second apart, oldest first."""
    generator = np.random.default_rng(3)
    for age, name in enumerate(("benign/c.png", "benign/a.png", "malignant/b.png", "benign/d.png")):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
        os.utime(path, (1000 + age, 1000 + age))
    return tmp_path / "new"


def load(root, count=0, known=()):
    return recent.load_recent(root, LABELS, pictures_of(32), count=count, known=known)


def test_pictures_are_sorted_by_name(root):
    found = load(root)
    assert found.ids == ("benign/a.png", "benign/c.png", "benign/d.png", "malignant/b.png")
    assert found.truth.tolist() == [0, 0, 0, 1]
    assert found.images.shape == (4, 32, 32, 3)


def test_the_newest_pictures_are_chosen(root):
    assert load(root, count=2).ids == ("benign/d.png", "malignant/b.png")


def test_training_pictures_are_left_out_under_any_name(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    projects.write_splits(tmp_path, 32, 2, np.random.default_rng(1))
    learnt = tmp_path / "data/images/0.png"
    (root / "benign/renamed.png").write_bytes(learnt.read_bytes())
    digest = hashlib.sha256(learnt.read_bytes()).hexdigest()
    assert digest in (tmp_path / "data/splits/train.csv").read_text()
    assert "benign/renamed.png" not in load(root, known=[tmp_path / "data/splits/train.csv"]).ids
    assert "benign/renamed.png" in load(root).ids


def test_undecodable_pictures_are_left_out(root, caplog):
    (root / "benign/broken.png").write_bytes(b"no picture")
    assert len(load(root).ids) == 4
    assert "broken.png" in caplog.text


def test_an_error_names_an_unknown_or_empty_folder(root, tmp_path):
    (root / "unclear").mkdir()
    with pytest.raises(DataError, match=r"folders \['unclear'\], expected classes of the model"):
        load(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no new picture"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="there is none"):
        load(tmp_path / "nowhere")


def test_a_link_is_refused_even_if_it_leads_to_a_picture(root, tmp_path):
    (root / "benign/a.png").rename(tmp_path / "elsewhere.png")
    (root / "benign/a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DataError, match=r"got a symbolic link to '.*/elsewhere\.png' at 'benign/a\.png'"):
        load(root)
