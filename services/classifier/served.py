"""The live model, and its release on disk."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from buckler.modality.base import Images
from buckler.serving.assessment import EARLIEST
from buckler.serving.version import Version
from buckler.trust.standing import DEGRADED, HOLDS, WITHDRAWN, Standing, State

if TYPE_CHECKING:
    from buckler.models.explanation import Relevance
    from buckler.serving.predictor import Prediction, Predictor


@dataclass(frozen=True, slots=True)
class Candidate:
    """A release on disk, not verified yet.

    Attributes:
        promotion: Signed record of its promotion; empty if it was not promoted.
    """

    path: Path
    version: str
    promotion: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """The live model with its name, its version and its standing.

    Attributes:
        kept: Its release on disk; None if the service keeps no copy.
        standing: Its valid standing; None without one.
        approved_by: Names of the people who approved its promotion.
    """

    predictor: "Predictor"
    name: str
    version: str
    kept: Candidate | None = None
    standing: Standing | None = None
    approved_by: tuple[str, ...] = ()

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
        return self.predictor(pixels, review_from=self._review_from)

    def predict_and_explain(self, pixels: Images, label: str | None = None) -> "tuple[Prediction, Relevance]":
        """Return the answer as ``__call__``, and the relevance of each place for ``label``, as ``Predictor``."""
        return self.predictor.predict_and_explain(pixels, label, review_from=self._review_from)

    @property
    def _review_from(self) -> datetime:
        return EARLIEST if self.state == DEGRADED else self.expires_at

    def matches(self, entry: Version) -> bool:
        """Return whether ``entry`` describes this release; it may have been promoted again since."""
        own = (self.version, self.predictor.digest, self.predictor.verdict.id)
        return own == (entry.version, entry.digest, entry.verdict)
