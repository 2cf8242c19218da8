"""Loads TensorFlow and Keras: with oneDNN, without their banner, which no setting turns off, and without scikit-learn
and matplotlib, which Keras loads for its wrappers and galleries. The garbage collector, which finds nothing to free
meanwhile, waits.

All modules that train or attack import them from here. The service does without: see `buckler.models.runtime`.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_BANNER = (
    b"I0000 ",
    b"WARNING: All log messages before absl::InitializeLog()",
    b"To enable the following instructions",
)


# A third of the time that Keras takes to load. Without them it loads, too.
_UNUSED = ("matplotlib", "sklearn")


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Let imports of the modules ``names`` fail until the context ends, unless they are loaded already."""
    hidden: dict[str, Any] = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Imports allocate millions of objects that stay: searching them for garbage takes a sixth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


with _without(_UNUSED), _without_garbage_collection():
    if "tensorflow" not in sys.modules:
        _load_quietly()
    import keras  # after TensorFlow, which it would load with the banner
    import tensorflow as tf

__all__ = ["keras", "tf"]
