"""What the pages say about a model, from its card; what the card of an earlier service lacks is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.console import messages

Card = Mapping[str, Any]

SYNTHETIC = "synthetic"
_SOURCES: dict[str | None, str] = {
    SYNTHETIC: "pictures drawn by a program, none of a patient",
    "directory": "pictures from a folder",
}
BINS = 10  # of the reliability table


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model in short.

    Attributes:
        intended_use: What its maker intends it for; None if not stated.
        source: Source of its training pictures, ``synthetic`` or ``directory``; None if not stated.
        expires_at: When its verdict expires, an ISO 8601 time.
        image_size: Side of its input, in pixels.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    intended_use: str | None
    source: str | None
    limits: tuple[str, ...]
    expires_at: str
    image_size: int

    @property
    def source_text(self) -> str:
        """The source of its training pictures in words."""
        return _SOURCES.get(self.source, "not stated")

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on drawn pictures."""
        return self.source == SYNTHETIC


@dataclass(frozen=True, slots=True)
class SimilarAnswers:
    """Test pictures whose estimate lies in the same bin of probability, and how many of them were answered rightly."""

    pictures: int
    right: int


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Whether the page shows the heat map, and what it says about it."""

    shown: bool
    note: str


def of(card: Card | None) -> ModelFacts | None:
    """Return the facts in ``card``; None without one."""
    if card is None:
        return None
    model = card["model"]
    return ModelFacts(
        name=model["name"],
        version=model["version"],
        labels=tuple(model["labels"]),
        intended_use=card.get("intended_use"),
        source=card["data"].get("source"),
        limits=tuple(card["limits"]),
        expires_at=card["standing"]["expires_at"],
        image_size=model["image_size"],
    )


def similar_answers(card: Card | None, probability: float) -> SimilarAnswers | None:
    """Return how test pictures with an estimate like ``probability`` were answered; None if the card does not say.

    Source: the card's reliability table, whose bins have equal widths.
    """
    for each in (card or {}).get("clean", {}).get("reliability") or ():
        if _bin(each["confidence"]) == _bin(probability):
            return SimilarAnswers(each["pictures"], each["right"])
    return None


def _bin(probability: float) -> int:
    return min(int(probability * BINS), BINS - 1)


def heat_map(card: Card | None, *, flat: bool) -> HeatMap:
    """Return what the page says about the heat map of an answer; ``flat``: it marks no region."""
    stated = (card or {}).get("heat_map") or {}
    if not stated.get("shown", True):
        return HeatMap(False, stated["reason"])
    if flat:
        return HeatMap(False, "No region raised the estimate.")
    checked = stated.get("checked")
    if checked is None:
        return HeatMap(True, "A rough hint. It was not checked whether the marked regions are those that matter.")
    share = messages.percent(checked["value"])
    return HeatMap(
        True, f"A rough hint. In {share} of the pictures it was checked on, the strongest mark lay on the lesion."
    )
