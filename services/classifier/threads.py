"""Threads in which requests do work that blocks: decoding, computing, writing."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError

T = TypeVar("T")


class Threads:
    """Runs one kind of work, at most ``count`` calls at once; the others wait in order.

    A request that is cancelled or late stops waiting at once. A call that has not begun is then dropped; one that runs
    cannot be stopped: it keeps its thread until it ends, so that late calls never pile up.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[[], T], *, seconds: float | None = None) -> T:
        """Return the result of ``work``.

        Args:
            work: The call.
            seconds: Longest time of the call itself, without the time for which it waits; default: no limit.

        Raises:
            RefusalError: ``decode_timeout``: the call takes longer.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()

        def release(_: "Future[T]") -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._free.release)

        call = self._pool.submit(work)
        call.add_done_callback(release)
        result = asyncio.wrap_future(call)
        try:
            done, _ = await asyncio.wait({result}, timeout=seconds)
        finally:
            if not result.done():
                result.cancel()
        if not done:
            raise RefusalError(ErrorCode.DECODE_TIMEOUT)
        return result.result()

    def stop(self) -> None:
        """Accept no more work; do not wait for the calls that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)
