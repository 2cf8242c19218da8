"""Waits for what another thread or process does."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> float:
    """Return after how many seconds ``condition`` held; fail if it does not within ``seconds``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds:.0f} s in vain"
        time.sleep(0.05)
    return time.monotonic() - began
