"""How many requests a service takes: of each client in a second and at once, and of all together.

Everything is counted in one process and in its one event loop: nothing here waits and nothing is locked.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from buckler.errors import LimitError

# When a place comes free is not known; by then some answer has usually been given.
BUSY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken.

    Attributes:
        per_second: Requests a second of one client in the long run.
        burst: Requests of one client that may come together after a pause.
        at_once: Requests of one client that are in the works together.
        in_progress: Requests of all clients that are in the works together.
    """

    per_second: float
    burst: int
    at_once: int
    in_progress: int


class TokenBucket:
    """Holds up to ``burst`` tokens, gains ``per_second`` of them, and gives one a request; starts full."""

    def __init__(self, *, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float) -> float:
        """Take a token and return 0; or take none and return in how many seconds there will be one.

        Args:
            now: Seconds of a clock that never goes back.
        """
        gained = (now - self._filled_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0

    def owe(self, tokens: int) -> None:
        """Take ``tokens`` that may not be there yet: what comes next waits until they are."""
        self._tokens -= tokens


class Limiter:
    """Gives out places for requests; refuses at once what has none, so that nothing piles up."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._taken = 0
        # Grows with the keys that are ever used, which an operator made one by one: never by a stranger's doing.
        self._clients: dict[str, _Client] = {}

    @contextmanager
    def place(self, client: str | None) -> Iterator[None]:
        """Hold a place for one request of ``client``; only the limit of all together holds for None.

        Raises:
            LimitError: There is none. A refused request costs its client no token, except where it lacks one.
        """
        if self._taken >= self._limits.in_progress:
            raise LimitError(
                "overloaded",
                f"{self._limits.in_progress} requests are being answered and no more are taken; try again later",
                retry_after=BUSY_SECONDS,
            )
        with self._place_of(client) if client else nullcontext():
            self._taken += 1
            try:
                yield
            finally:
                self._taken -= 1

    @contextmanager
    def more(self, client: str | None, count: int) -> Iterator[None]:
        """Hold ``count`` more places for a request of ``client`` that has one and turned out to need them.

        They cost as many tokens, which the client may owe: its rate holds in the long run, and what is read already
        is not refused for it.

        Raises:
            LimitError: ``overloaded`` or ``too_many_at_once``: there are not so many.
        """
        limits, mine = self._limits, self._clients.get(client) if client else None
        if self._taken + count > limits.in_progress:
            raise LimitError(
                "overloaded",
                f"{self._taken} of {limits.in_progress} pictures are being answered, which leaves too few places for "
                f"{count} more; try again later, or with fewer",
                retry_after=BUSY_SECONDS,
            )
        if mine and mine.taken + count > limits.at_once:
            raise LimitError(
                "too_many_at_once",
                f"expected at most {limits.at_once} pictures at once from one client, got {mine.taken + count}; wait "
                "for an answer first, or send fewer",
                retry_after=BUSY_SECONDS,
            )
        self._taken += count
        if mine:
            mine.bucket.owe(count)
            mine.taken += count
        try:
            yield
        finally:
            self._taken -= count
            if mine:
                mine.taken -= count

    @contextmanager
    def _place_of(self, client: str) -> Iterator[None]:
        limits, now = self._limits, self._clock()
        mine = self._clients.get(client)
        if mine is None:
            bucket = TokenBucket(per_second=limits.per_second, burst=limits.burst, now=now)
            mine = self._clients[client] = _Client(bucket)
        if mine.taken >= limits.at_once:
            raise LimitError(
                "too_many_at_once",
                f"expected at most {limits.at_once} requests at once from one client; wait for an answer first",
                retry_after=BUSY_SECONDS,
            )
        if seconds := mine.bucket.take(now):
            raise LimitError(
                "rate_limited",
                f"expected at most {limits.per_second:g} requests a second from one client, {limits.burst} after a "
                "pause; try again later",
                retry_after=max(1, math.ceil(seconds)),
            )
        mine.taken += 1
        try:
            yield
        finally:
            mine.taken -= 1


@dataclass(slots=True)
class _Client:
    bucket: TokenBucket
    taken: int = 0
