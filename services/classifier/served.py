"""The model that answers, and how the registry describes a release."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from buckler.trust.standing import DEGRADED, HOLDS, WITHDRAWN, Standing, State

if TYPE_CHECKING:
    from buckler.serving.predictor import Predictor

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the registry names, before anything of it is fetched; equal sightings are the same release.

    Attributes:
        version: Its number.
        digest, verdict: What it is said to be.
        promotion: The signed record of how it came to be champion; empty without one.
        standing: What was signed about it since; no part of which release it is.
    """

    version: str
    digest: str = ""
    verdict: str = ""
    promotion: str = ""
    standing: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release that might serve; nothing about it is believed yet.

    Attributes:
        promoted_at: The signed time of its promotion, ``NEVER`` without one.
    """

    path: Path
    version: str
    promoted_at: datetime = NEVER


@dataclass(frozen=True, slots=True)
class Served:
    """The model that answers, and what it is called.

    Attributes:
        kept: Where its release lies, None if it is not kept.
        standing: What was signed about it since its verdict, None if nothing was.
    """

    predictor: "Predictor"
    name: str
    version: str
    kept: Candidate | None = None
    standing: Standing | None = None

    @property
    def state(self) -> State:
        """Whether its verdict still counts."""
        return self.standing.state if self.standing else HOLDS

    @property
    def withdrawn(self) -> bool:
        """Whether it may not answer any more."""
        return self.state == WITHDRAWN

    @property
    def expires_at(self) -> datetime:
        """Until when its verdict holds, as renewed."""
        return self.standing.expires_at if self.standing else self.predictor.verdict.expires_at

    def under(self, standing: Standing | None) -> "Served":
        """Return the same model as it stands now: from when on its answers ask for review is told to it, too.

        Raises:
            VerdictError: ``standing``: that is about another release.
        """
        if standing is None or standing == self.standing:
            return self
        standing.check(self.predictor.verdict)
        degraded = standing.state == DEGRADED
        self.predictor.holds_until = datetime.min.replace(tzinfo=UTC) if degraded else standing.expires_at
        return replace(self, standing=standing)

    def is_what(self, sighting: Sighting) -> bool:
        """Tell whether the registry names this very release; it may have been promoted once more since."""
        mine = (self.version, self.predictor.digest, self.predictor.verdict.id)
        return mine == (sighting.version, sighting.digest, sighting.verdict)
