"""Loads TensorFlow and Keras with oneDNN, and without their banner, which no setting turns off.

All modules that train or attack import them from here. The service does without: see `buckler.models.runtime`.
"""

import os
import sys
import tempfile

_BANNER = (
    b"I0000 ",
    b"WARNING: All log messages before absl::InitializeLog()",
    b"To enable the following instructions",
)


def _load_quietly() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # By default only on processors with AVX-512; without it, VGG-19's gradient takes four times as long.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as output:
        # The library writes to the file descriptor, not to sys.stderr. Lines outside the banner are printed afterwards.
        stderr = os.dup(2)
        os.dup2(output.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            output.seek(0)
            os.write(2, b"".join(line for line in output if not line.startswith(_BANNER)))


if "tensorflow" not in sys.modules:
    _load_quietly()

import keras  # noqa: E402 - after TensorFlow, which it would load with the banner
import tensorflow as tf  # noqa: E402

__all__ = ["keras", "tf"]
