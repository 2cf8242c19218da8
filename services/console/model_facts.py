"""What the pages say about a model, from its card; what the card of an earlier service lacks is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buckler.measurements.data_source import DataSource
from buckler.serving.model_card import SOURCES
from services.console import messages

Card = Mapping[str, Any]


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
    source: DataSource | None
    limits: tuple[str, ...]
    expires_at: str
    image_size: int

    @property
    def source_text(self) -> str:
        """The source of its training pictures in words."""
        return SOURCES.get(self.source, SOURCES[None])

    @property
    def synthetic(self) -> bool:
        """Whether it was trained on drawn pictures."""
        return self.source == "synthetic"


@dataclass(frozen=True, slots=True)
class SimilarAnswers:
    """Test pictures whose estimate lies in the same bin of probability, and how many of them were answered rightly."""

    pictures: int
    right: int


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
    """Return how test pictures with an estimate like ``probability`` were answered; None if the card does not say."""
    for each in (card or {}).get("clean", {}).get("reliability") or ():
        if each["low"] <= probability < each["high"] or probability == each["high"] == 1:
            return SimilarAnswers(each["pictures"], each["right"])
    return None


def heat_map_note(card: Card | None, state: str) -> str:
    """Return what the page says about the heat map of an answer.

    Args:
        card: Of the model that answered; None if not available.
        state: As `PictureAnswer.heat_map`.
    """
    stated = (card or {}).get("heat_map") or {}
    if state == "flat":
        return "No region stands out."
    if state == "unreliable":
        return stated.get("reason") or "The model's heat maps failed their check."
    if not stated.get("checked"):
        return stated.get("reason") or "It was not checked whether the marked regions are those that matter."
    share = messages.percent(stated["checked"]["value"])
    return f"In {share} of the pictures that it was checked on, the strongest mark lay on the lesion."
