"""The protocol's own clients, each in an environment of its own: they do not fit the lock of this project."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uv
from PIL import Image

from buckler.modality.picture import images
from tests.absent import absent
from tests.services.running import IMAGE_SIZE, LABELS, Server

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parents[1] / "clients"
# Exact versions, so that a test fails for what changed here. uv keeps the environments in its cache.
PACKAGES = {"triton": "tritonclient[http]==2.73.0", "kserve": "kserve==0.21.0", "mlserver": "mlserver==1.7.1"}
EXACT, HALF = 1e-5, 0.02  # of probabilities; FP16 rounds the pixels


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    """A picture that has the side of the model's input: ``(side, side, 3)`` uint8."""
    return np.random.default_rng(3).integers(60, 200, size=(IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)


def environment(package: str) -> list[str]:
    """Return the command of a Python that has ``package``."""
    command = [uv.find_uv_bin(), "run", "--no-project", "--no-config", "--quiet", "--python", sys.executable]
    command += ["--with", package, "--", "python"]
    made = subprocess.run([*command, "-c", ""], capture_output=True, text=True)
    if made.returncode:
        absent(f"uv made no environment with {package}: {made.stderr[-500:]}")
    return command


@pytest.mark.parametrize("client", PACKAGES)
def test_the_answers_to_a_client_are_those_of_predict(client: str, server: Server, levels: np.ndarray, tmp_path: Path):
    python = environment(PACKAGES[client])
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    picture, pixels = tmp_path / "picture.png", tmp_path / "pixels.npy"
    picture.write_bytes(buffer.getvalue())
    np.save(pixels, levels[None])
    np.testing.assert_array_equal(images.load_pixels(picture), levels / np.float32(255))
    answer = server.predict(picture.read_bytes()).json()
    expected = [answer["probabilities"][label] for label in LABELS]
    program = [*python, CLIENTS / f"{client}_client.py", server.url, picture, pixels]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])  # MLServer logs above it
    error = found.pop("error", "image_unsupported: ")
    assert error.startswith("image_unsupported: ")
    assert len(found) >= 6
    for name, result in found.items():
        (probabilities,) = result["probabilities"]
        assert probabilities == pytest.approx(expected, abs=HALF if name == "FP16" else EXACT), name
        if name != "FP16":
            assert result["label"] == [answer["label"]], name
            assert result.get("decision", [answer["decision"]]) == [answer["decision"]], name
