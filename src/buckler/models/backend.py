"""TensorFlow and Keras, loaded here, once, without the banner that no setting of their own turns off.

What trains and attacks imports them from here. What serves does not: see `buckler.models.runtime`.
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
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        # The library writes to the file descriptor, past sys.stderr; what is no banner is passed on afterwards.
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            os.write(2, b"".join(line for line in said if not line.startswith(_BANNER)))


if "tensorflow" not in sys.modules:
    _load_quietly()

import keras  # noqa: E402 - only now is it quiet
import tensorflow as tf  # noqa: E402

__all__ = ["keras", "tf"]
