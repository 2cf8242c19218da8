"""Detects a search for an adversarial picture: a run of near-identical pictures from one client.

A black-box attack queries the model many times with one picture, slightly changed each time. A single query reveals
nothing; a run does, whatever the answers. Only a fingerprint of each picture is stored, in memory and for a limited
time: 64 secret random projections of 16 x 16 block means, from which the picture cannot be reconstructed.

Source: Chen, Carlini & Wagner, "Stateful detection of black-box adversarial attacks", arXiv 1907.05587, for the run;
    Li et al., "Blacklight: scalable defense for neural networks against query-based black-box attacks", USENIX
    Security 2022, for the secret. Its hashes of exact pixel windows are not used: an attack that moves every pixel by
    8/255 leaves few windows as they were, while block means stay within 5/255 of each other.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from buckler.modality.base import Modality

PROJECTIONS = 64


@dataclass(frozen=True, slots=True)
class QueryRules:
    """Thresholds for a run of pictures.

    Attributes:
        run: Number of similar, distinct pictures of one client that form a run. 12 is more than a person takes of
            one lesion, and a third of the queries that the fastest search measured here needs to make progress.
        radius: Root mean square difference, in the unit of the pixels, up to which block means are similar. Measured
            on 2,636 dermoscopic pictures: the eleventh most similar one is 7.3/255 away or more, near-duplicates
            included; the first 50 queries of Square within 8/255 are 0.2/255 to 5.3/255 apart, half of them 1.6/255.
        window_seconds: Time for which a picture is stored.
        remember: Maximum number of stored pictures per client; the oldest are dropped first.
        clients: Maximum number of clients; the longest inactive are dropped first.
    """

    run: int = 12
    radius: float = 5 / 255
    window_seconds: float = 3600.0
    remember: int = 2048
    clients: int = 256


@dataclass(frozen=True, slots=True)
class QueryRun:
    """How one picture relates to the client's earlier ones.

    Attributes:
        alike: Number of distinct similar pictures, including this one.
        in_run: Whether they form a run.
        begins: Whether this picture starts a run within the window: true once per attack, not per picture.
    """

    alike: int
    in_run: bool
    begins: bool


class QueryMonitor:
    """Stores fingerprints for each client; thread-safe.

    Memory grows with the number of distinct pictures, to at most ``clients * remember * 272`` bytes: 136 MiB by
    default.
    """

    def __init__(
        self,
        rules: QueryRules | None = None,
        *,
        secret: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without stored pictures.

        Args:
            rules: Thresholds for a run.
            secret: Seed of the projections; random by default, so that outsiders cannot predict the fingerprints.
            clock: Monotonic clock in seconds.
        """
        self._rules = rules or QueryRules()
        self._secret = secret or secrets.token_bytes(32)
        self._clock = clock
        self._matrices: dict[int, NDArray[np.float32]] = {}  # by the number of values of a fingerprint
        self._clients: OrderedDict[str, _Memory] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, client: str, values: NDArray[np.float32], modality: Modality) -> QueryRun:
        """Compare an input with the earlier ones of ``client`` and store it.

        An identical one sent again counts once: a retry is not a search.

        Args:
            client: Identifier of the client.
            values: The input, float32 in 0..1.
            modality: Of the input.
        """
        rules, now = self._rules, self._clock()
        fingerprints = modality.fingerprints(values)
        prints = fingerprints @ self._matrix(fingerprints.shape[1])
        steps = modality.unit.steps_of(values)
        digest = hashlib.blake2b(steps.tobytes(), digest_size=8, key=self._secret)
        identity = int.from_bytes(digest.digest(), "big")
        with self._lock:
            memory = self._memory_of(client)
            alike = 1 + memory.others_near(prints, identity, rules.radius, since=now - rules.window_seconds)
            memory.remember(prints[0], identity, now)
            in_run = alike >= rules.run
            begins = in_run and now - memory.last_run_at > rules.window_seconds
            if in_run:
                memory.last_run_at = now
        return QueryRun(alike, in_run, begins)

    def _matrix(self, values: int) -> NDArray[np.float32]:
        """Return the projections of fingerprints of so many ``values``, drawn from the secret."""
        if values not in self._matrices:
            generator = np.random.default_rng(np.frombuffer(hashlib.sha256(self._secret).digest(), np.uint32))
            # Scaled so that the length of a projected difference is, on average, the difference's root mean square.
            drawn = generator.standard_normal((values, PROJECTIONS)) / np.sqrt(values * PROJECTIONS)
            self._matrices[values] = drawn.astype(np.float32)
        return self._matrices[values]

    def _memory_of(self, client: str) -> "_Memory":
        memory = self._clients.setdefault(client, _Memory(self._rules.remember))
        self._clients.move_to_end(client)
        if len(self._clients) > self._rules.clients:
            self._clients.popitem(last=False)
        return memory


class _Memory:
    """The last pictures of one client, in a ring."""

    def __init__(self, capacity: int) -> None:
        # Empty, not zeros: the system allocates memory only for the parts that are written.
        self._prints = np.empty((capacity, PROJECTIONS), np.float32)
        self._identities = np.empty(capacity, np.uint64)
        self._seen_at = np.empty(capacity, np.float64)
        self._seen = 0
        self.last_run_at = -np.inf

    def others_near(self, prints: NDArray[np.float32], identity: int, radius: float, *, since: float) -> int:
        """Return how many distinct pictures seen after ``since`` are similar to the given one.

        Args:
            prints: ``(forms, 64)`` fingerprints of the input in every form.
            identity: Identity of the picture.
            radius: Distance up to which two pictures are similar.
            since: Time on the monitor's clock.
        """
        kept = slice(min(self._seen, len(self._prints)))
        candidates = (self._seen_at[kept] > since) & (self._identities[kept] != np.uint64(identity))
        stored = self._prints[kept][candidates]
        if not len(stored):
            return 0
        squares = (stored**2).sum(axis=1)[:, None] + (prints**2).sum(axis=1) - 2 * stored @ prints.T
        return int((squares.min(axis=1) <= radius**2).sum())

    def remember(self, fingerprint: NDArray[np.float32], identity: int, now: float) -> None:
        """Store a picture; a picture already stored gets the current time."""
        kept = slice(min(self._seen, len(self._prints)))
        known = np.flatnonzero(self._identities[kept] == np.uint64(identity))
        place = int(known[0]) if len(known) else self._seen % len(self._prints)
        self._seen += 0 if len(known) else 1
        self._prints[place], self._identities[place], self._seen_at[place] = fingerprint, identity, now
