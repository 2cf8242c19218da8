import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from buckler.errors import ModelError
from buckler.models import initial
from buckler.models.initial import InitialWeights
from buckler.models.networks.vgg import VGG19
from buckler.trust.digests import file_digest


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "weights.h5", seed=1)


def write(path, seed):
    with h5py.File(path, "w") as file:
        file["kernel"] = np.random.default_rng(seed).random(5_000)
    return path


def test_a_file_is_identified_by_its_content_and_not_by_its_path(weights):
    found = initial.identify("weights.h5", "vgg19")
    assert found == InitialWeights("file", file_digest(weights), weights.stat().st_size)
    weights.rename("other.h5")
    Path("link.hdf5").symlink_to("other.h5")
    assert initial.identify("other.h5", "tiny") == initial.identify("link.hdf5", "vgg19") == found
    write(weights, seed=2)
    assert initial.identify("weights.h5", "vgg19").digest != found.digest


def test_a_download_is_identified_by_the_digest_that_the_network_pins():
    assert initial.identify("imagenet", "vgg19").identity == f"md5:{VGG19.pretrained['imagenet'].md5}"


def test_random_weights_have_no_digest():
    assert initial.identify("none", "vgg19") == InitialWeights("none")
    assert InitialWeights("none").identity == "none"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "page.h5",
            b"<html>not found</html>",
            r"\(HDF5\), got page\.h5 with 22 bytes that begin with b'<html>not",
        ),
        ("empty.h5", b"", "got empty.h5 with 0 bytes"),
        ("page.keras", b"<html>", r"\(zip\), got page\.keras"),
        ("weights.bin", b"", r"expected none, imagenet or a Keras file that ends in \.h5, \.hdf5 or \.keras"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        initial.identify(name, "vgg19")


def test_an_incomplete_copy_is_refused(weights):
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="expected a complete Keras weights file"):
        initial.identify("weights.h5", "vgg19")


def test_what_is_no_file_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "link.h5").symlink_to("moved.h5")
    for name, reason in {
        "absent.h5": "absent.h5: No such file",
        "folder.h5": "Is a directory",
        "link.h5": "link.h5, a link to moved.h5: No such file",
    }.items():
        with pytest.raises(ModelError, match=reason):
            initial.identify(name, "vgg19")


def test_a_network_without_the_named_download_refuses_the_name():
    with pytest.raises(ModelError, match=r"expected none or a Keras file.*got 'imagenet'"):
        initial.identify("imagenet", "tiny")


def test_what_is_written_can_be_read_again(weights, tmp_path):
    found = initial.identify("weights.h5", "vgg19")
    initial.save(found, tmp_path / "data/weights.json")
    assert initial.load(tmp_path / "data/weights.json") == found
    assert found.confirm("weights.h5", "vgg19") == "weights.h5"


def test_a_file_that_has_changed_since_is_not_confirmed(weights):
    found = initial.identify("weights.h5", "vgg19")
    write(weights, seed=2)
    with pytest.raises(ModelError, match=f"expected weights.h5 with {found.digest}, as when this run started"):
        found.confirm("weights.h5", "vgg19")
    weights.unlink()
    with pytest.raises(ModelError, match="No such file"):
        found.confirm("weights.h5", "vgg19")


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("theirs.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    return tmp_path / "theirs.keras"


def test_a_trained_network_is_identified_by_its_content_and_not_by_its_path(network):
    found = initial.identify("none", "file:theirs.keras")
    assert found == InitialWeights("file", file_digest(network), network.stat().st_size)
    assert found.confirm("none", "file:theirs.keras") == "theirs.keras"
    network.rename("moved.keras")
    assert initial.identify("none", "file:moved.keras") == found
    with pytest.raises(ModelError, match=r"train\.network: expected a Keras network, got theirs\.keras: No such file"):
        found.confirm("none", "file:theirs.keras")
    with zipfile.ZipFile("moved.keras", "a") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ModelError, match=rf"train\.network: expected moved\.keras with {found.digest}, as when"):
        found.confirm("none", "file:moved.keras")


@pytest.mark.parametrize(
    ("weights", "setting", "message"),
    [
        (
            "imagenet",
            "file:theirs.keras",
            r"train\.weights: expected none with train\.network file:theirs\.keras, which has",
        ),
        (
            "none",
            "file:old.h5",
            r"train\.network: expected file: and a network that ends in \.keras, got 'old\.h5'; load it",
        ),
        ("none", "file:", r"train\.network: expected file: and a network that ends in \.keras, got '\.'"),
        (
            "none",
            "file:page.keras",
            r"train\.network: expected a complete Keras network \(zip\), got page\.keras with 6 bytes",
        ),
    ],
)
def test_what_is_no_trained_network_is_refused(network, weights, setting, message):
    Path("page.keras").write_bytes(b"<html>")
    with pytest.raises(ModelError, match=message):
        initial.identify(weights, setting)
