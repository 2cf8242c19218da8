"""The live model, and how a source describes a release."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from buckler.modality.base import Images
from buckler.trust.standing import DEGRADED, HOLDS, WITHDRAWN, Standing, State

if TYPE_CHECKING:
    from buckler.serving.predictor import Prediction, Predictor

EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """A release as its source describes it, before it is fetched; equal entries are the same release.

    Attributes:
        version: Version number in the registry.
        digest, verdict: As the source states them, not verified.
        promotion: Signed record of its promotion; empty without one.
        standing: Signed statement about the release since its verdict; not compared.
    """

    version: str
    digest: str = ""
    verdict: str = ""
    promotion: str = ""
    standing: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release on disk, not verified yet.

    Attributes:
        promoted_at: Signed time of its promotion; ``EARLIEST`` if it was not promoted.
    """

    path: Path
    version: str
    promoted_at: datetime = EARLIEST


@dataclass(frozen=True, slots=True)
class Served:
    """The live model with its name, its version and its standing.

    Attributes:
        kept: Its release on disk; None if the service keeps no copy.
        standing: Latest signed statement about it since its verdict; None without one.
    """

    predictor: "Predictor"
    name: str
    version: str
    kept: Candidate | None = None
    standing: Standing | None = None

    @property
    def state(self) -> State:
        """Whether its verdict holds, its answers need review, or it is withdrawn."""
        return self.standing.state if self.standing else HOLDS

    @property
    def withdrawn(self) -> bool:
        """Whether it must not answer."""
        return self.state == WITHDRAWN

    @property
    def expires_at(self) -> datetime:
        """Expiry of its verdict, or of the latest renewal."""
        return self.standing.expires_at if self.standing else self.predictor.verdict.expires_at

    def __call__(self, pixels: Images) -> "Prediction":
        """Return the answer to one picture, as ``Predictor`` takes it; for review if the standing requires it."""
        review_from = EARLIEST if self.state == DEGRADED else self.expires_at
        return self.predictor(pixels, review_from=review_from)

    def with_standing(self, standing: Standing | None) -> "Served":
        """Return the same model with another standing; with None, unchanged.

        Raises:
            VerdictError: ``standing``: the standing is about another release.
        """
        if standing is None or standing == self.standing:
            return self
        standing.check(self.predictor.verdict)
        return replace(self, standing=standing)

    def matches(self, entry: ReleaseEntry) -> bool:
        """Return whether ``entry`` describes this release; it may have been promoted again since."""
        own = (self.version, self.predictor.digest, self.predictor.verdict.id)
        return own == (entry.version, entry.digest, entry.verdict)
