"""Request limits: rate and concurrency per client, and total concurrency.

All counters belong to one process and its one event loop: nothing blocks and no lock is needed.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from buckler.error_codes import ErrorCode
from buckler.errors import LimitError

# It is unknown when a place becomes free; within a second some request has usually finished.
BUSY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Limits of a service.

    Attributes:
        per_second: Sustained requests per second of one client.
        burst: Requests that one client may send at once after a pause.
        at_once: Concurrent requests of one client.
        in_progress: Concurrent requests of all clients.
    """

    per_second: float
    burst: int
    at_once: int
    in_progress: int


class TokenBucket:
    """A bucket of up to ``burst`` tokens, refilled at ``per_second``; a request takes one. Starts full."""

    def __init__(self, *, per_second: float, burst: int, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = now

    def take(self, now: float) -> float:
        """Take a token and return 0; if there is none, return the seconds until there is one.

        Args:
            now: Seconds of a monotonic clock.
        """
        gained = (now - self._filled_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0

    def owe(self, tokens: int) -> None:
        """Take tokens on credit; later requests wait until it is repaid."""
        self._tokens -= tokens


class Limiter:
    """Admits requests up to the limits and rejects the rest at once, so that no queue builds up."""

    def __init__(self, limits: RateLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._taken = 0
        # Grows with the keys in use, which an operator created; strangers cannot make it grow.
        self._clients: dict[str, _Client] = {}

    @contextmanager
    def place(self, client: str | None) -> Iterator[None]:
        """Reserve a place for one request of ``client``; for None only the total limit applies.

        Raises:
            LimitError: A limit is reached. A rejected request costs its client no token.
        """
        if self._taken >= self._limits.in_progress:
            raise LimitError(
                ErrorCode.OVERLOADED,
                f"{self._limits.in_progress} requests are being answered, which is the limit; try again later",
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
        """Reserve ``count`` more places for an admitted request of ``client`` that turned out to need them.

        They cost ``count`` tokens, on credit if necessary: the sustained rate stays limited, and a request that was
        already read is not rejected because of it.

        Raises:
            LimitError: ``overloaded`` or ``too_many_at_once``: too few places are free.
        """
        limits, mine = self._limits, self._clients.get(client) if client else None
        if self._taken + count > limits.in_progress:
            raise LimitError(
                ErrorCode.OVERLOADED,
                f"{self._taken} of {limits.in_progress} places are in use, too few are free for {count} more pictures; "
                "try again later, or send fewer",
                retry_after=BUSY_SECONDS,
            )
        if mine and mine.taken + count > limits.at_once:
            raise LimitError(
                ErrorCode.TOO_MANY_AT_ONCE,
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
                ErrorCode.TOO_MANY_AT_ONCE,
                f"expected at most {limits.at_once} requests at once from one client; wait for an answer first",
                retry_after=BUSY_SECONDS,
            )
        if seconds := mine.bucket.take(now):
            raise LimitError(
                ErrorCode.RATE_LIMITED,
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


class ByteBudget:
    """Bounds the bytes that all requests hold in memory together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Return a function that counts further bytes of one request; at the end they are free again.

        The function raises `LimitError` (``overloaded``) if all requests together would hold too many.
        """
        mine = 0

        def hold(count: int) -> None:
            nonlocal mine
            if self._held + count > self._most:
                raise LimitError(
                    ErrorCode.OVERLOADED,
                    f"requests in progress hold {self._held:,} of {self._most:,} bytes; try again later",
                    retry_after=BUSY_SECONDS,
                )
            self._held += count
            mine += count

        try:
            yield hold
        finally:
            self._held -= mine
