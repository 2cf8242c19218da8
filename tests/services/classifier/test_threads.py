"""Work of requests in threads: what is late, cancelled or stuck delays no other call."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from services.classifier.contract import RefusalError
from services.classifier.threads import Threads


@pytest.fixture
def stuck():
    """A call that runs until the test ends."""
    end = threading.Event()
    yield lambda: end.wait(10)
    end.set()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 5))


async def code_of(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(RefusalError) as caught:
        await work
    return caught.value.code


def test_a_call_returns_its_result_or_raises_its_error():
    def fail() -> None:
        raise TimeoutError("of the call itself")

    threads = Threads("Test")
    assert run(threads.run(lambda: 3)) == 3
    with pytest.raises(TimeoutError, match="of the call itself"):
        run(threads.run(fail))
    assert run(threads.run(lambda: 4, seconds=1)) == 4


def test_a_stuck_call_is_late_and_delays_no_other(stuck):
    async def scene() -> None:
        threads = Threads("Test", 2)
        assert await code_of(threads.run(stuck, seconds=0.1)) == "decode_timeout"
        started = time.monotonic()
        assert [await threads.run(lambda: 5, seconds=0.1) for _ in range(20)] == [5] * 20
        assert time.monotonic() - started < 1

    run(scene())


def test_late_calls_keep_their_threads_and_never_pile_up():
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1

    async def scene() -> None:
        threads = Threads("Test", 2)
        codes = await asyncio.gather(*(code_of(threads.run(work, seconds=0.02)) for _ in range(8)))
        assert set(codes) == {"decode_timeout"}

    run(scene())
    assert most == 2


def test_the_time_for_which_a_call_waits_does_not_count():
    async def scene() -> None:
        threads = Threads("Test")
        calls = [threads.run(lambda: time.sleep(0.1), seconds=0.3) for _ in range(5)]
        assert await asyncio.gather(*calls) == [None] * 5

    run(scene())


def test_a_cancelled_call_that_waits_is_never_run(stuck):
    ran: list[int] = []

    async def scene() -> None:
        threads = Threads("Test")
        first = asyncio.ensure_future(threads.run(lambda: time.sleep(0.2)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(threads.run(lambda: ran.append(2)))
        third = asyncio.ensure_future(threads.run(lambda: ran.append(3)))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(first, third)

    run(scene())
    assert ran == [3]


def test_a_cancelled_call_that_runs_keeps_its_thread_until_it_ends():
    ended: list[float] = []

    def work() -> None:
        time.sleep(0.2)
        ended.append(time.monotonic())

    async def scene() -> None:
        threads = Threads("Test")
        first = asyncio.ensure_future(threads.run(work))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0)
        assert first.cancelled()
        assert not ended
        await threads.run(lambda: None)
        assert ended

    run(scene())


def test_calls_run_in_the_order_in_which_they_came():
    order: list[int] = []

    async def scene() -> None:
        threads = Threads("Test")
        await asyncio.gather(*(threads.run(lambda number=number: order.append(number)) for number in range(50)))

    run(scene())
    assert order == list(range(50))
