"""What a panel shows is read in a thread of its own and waited for with a limit: a slow server makes no page slow.

A read that takes longer goes on, and a later refresh shows its result. At most one read of each kind runs at a time.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from buckler.errors import BucklerError

PANEL_SECONDS = 4.0  # that a part of a page waits for its servers

T = TypeVar("T")


class SlowError(BucklerError):
    """A server has not answered yet."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A result, and how many seconds ago it was read: 0 if for this request."""

    value: T
    age: float = 0.0


class Latest(Generic[T]):
    """The newest result of ``read``.

    Args:
        what: Names its servers in error messages, as in "the registry".
        read: Reads, and may take long; its exceptions are results, too.
        clock: Returns the monotonic time, in seconds.
    """

    def __init__(self, what: str, read: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._read, self._clock = what, read, clock
        self._lock = threading.Lock()
        self._running: tuple[Future[T], float] | None = None
        self._ended: tuple[Future[T], float] | None = None

    async def now(self, seconds: float = PANEL_SECONDS) -> T:
        """Return what is read now, within ``seconds``.

        Raises:
            SlowError: It takes longer.
        """
        future, began = self._start()
        wrapped = asyncio.wrap_future(future)
        try:
            await asyncio.wait({wrapped}, timeout=seconds)
        finally:
            if not wrapped.done():
                wrapped.cancel()  # this wait; the read goes on
        if future.done():
            return future.result()
        raise SlowError(
            f"{self._what} has not answered for {self._clock() - began:.0f} s; a later refresh shows the answer"
        )

    async def newest(self, seconds: float = PANEL_SECONDS) -> Reading[T]:
        """Return what is read now or, if that takes longer than ``seconds``, what was read last.

        Raises:
            SlowError: It takes longer, and nothing was read before.
        """
        try:
            return Reading(await self.now(seconds))
        except SlowError:
            with self._lock:
                ended = self._ended
            if ended is None:
                raise
            future, at = ended
            return Reading(future.result(), self._clock() - at)

    def forget(self) -> None:
        """Show nothing that was read, or began to be read, before now."""
        with self._lock:
            self._running = self._ended = None

    def _start(self) -> tuple["Future[T]", float]:
        with self._lock:
            if self._running is None:
                future: Future[T] = Future()
                future.set_running_or_notify_cancel()
                self._running = future, self._clock()
                threading.Thread(target=self._run, args=(future,), daemon=True, name=self._what).start()
            return self._running

    def _run(self, future: "Future[T]") -> None:
        try:
            result = self._read()
            finish: Callable[[], None] = partial(future.set_result, result)
        except BaseException as error:
            finish = partial(future.set_exception, error)
        with self._lock:
            if self._running is not None and self._running[0] is future:
                self._running, self._ended = None, (future, self._clock())
        finish()  # last: whoever asks from now on gets a new read
