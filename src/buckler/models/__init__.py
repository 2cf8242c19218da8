"""Networks on TensorFlow, which is loaded here, once, without the banner that no setting of its own turns off."""

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
