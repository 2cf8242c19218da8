"""Waiting for another thread or process."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> float:
    """Wait for ``condition`` and return the seconds that it took; fail after ``seconds``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds:.0f} s in vain"
        time.sleep(0.05)
    return time.monotonic() - began
