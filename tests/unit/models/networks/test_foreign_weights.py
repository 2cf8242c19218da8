import h5py
import pytest

from buckler.errors import ModelError
from buckler.models.networks.tiny import TINY
from tests.forms import square


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "base.weights.h5"
    TINY.base(square(32), seed=1).save_weights(path)
    return path


def replace_a_kernel(path, make):
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, each: names.append(name) if isinstance(each, h5py.Dataset) else None)
        kernel = next(name for name in names if file[name].ndim == 4)
        shape, kind = file[kernel].shape, file[kernel].dtype
        size = file[kernel].nbytes
        del file[kernel]
        make(file, kernel, shape, kind, size)


def test_weights_that_point_to_bytes_of_another_file_are_refused(weights, tmp_path):
    (tmp_path / "private.pem").write_bytes(b"k" * 1_000_000)

    def outside(file, name, shape, kind, size):
        file.create_dataset(name, shape, kind, external=[(str(tmp_path / "private.pem"), 0, size)])

    replace_a_kernel(weights, outside)
    with pytest.raises(ModelError, match="is not a Keras file with the weights"):
        TINY.base(square(32), weights=str(weights), seed=0)


def test_weights_that_link_to_another_file_are_refused(weights, tmp_path):
    def linked(file, name, shape, kind, size):
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other.create_dataset("kernel", shape, kind)
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")

    replace_a_kernel(weights, linked)
    with pytest.raises(ModelError, match="is not a Keras file with the weights"):
        TINY.base(square(32), weights=str(weights), seed=0)
