"""Queries the service as any client does; the console classifies no picture itself and stores none."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from buckler.client import Answer, Client, Opinion
from buckler.errors import BucklerError
from services.console.settings import Settings

TIMEOUT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 5.0
CARD_TIMEOUT_SECONDS = 2.0  # every page waits for the card
CARD_SECONDS = 60.0  # the standing of a model may change while its verdict stays the same

Card = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PictureAnswer:
    """The service's answer to one picture, with what the page shows beside it.

    Attributes:
        answer: The answer.
        picture: The picture as the service decoded it, scaled down, as a ``data:`` URL.
        heat_map: ``shown``; ``flat``: no region stands out; ``unreliable``: the model's heat maps failed their check.
        overlay: The picture with the regions marked, as a ``data:`` URL; None unless shown.
        card: The card of the model that answered; None if not available.
    """

    answer: Answer
    picture: str
    heat_map: str
    overlay: str | None
    card: Card | None


@dataclass(frozen=True, slots=True)
class KeptCard:
    """A model card, and the monotonic time at which it was fetched."""

    card: Card
    at: float


class ServiceClient:
    """Queries the service of ``BUCKLER_SERVICE_URL``."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Store the settings; ``clock`` returns the monotonic time, in seconds."""
        self._settings, self._clock = settings, clock
        self._kept: KeptCard | None = None

    def classify(self, picture: bytes) -> PictureAnswer:
        """Return the answer to a picture, the overlay and the model card; the picture is sent in one request.

        Raises:
            BucklerError: The service does not answer, or refuses the picture.
        """
        with self.client() as client:
            found = client.explain(picture)
            card = self._card_of(found.answer.model.verdict, client)
        overlay = data_url(found.overlay) if found.overlay else None
        return PictureAnswer(found.answer, data_url(found.picture), found.heat_map, overlay, card)

    def feedback(self, request_id: str, opinion: Opinion, label: str | None) -> int:
        """Record what the user thinks of an answer; arguments, result and errors as `Client.feedback`."""
        with self.client() as client:
            return client.feedback(request_id, opinion, label=label)

    def _card_of(self, verdict: str, client: Client) -> Card | None:
        """Return the card of the model with this verdict; None if not available."""
        kept = self._kept
        if kept is None or not _describes(kept.card, verdict) or self._clock() - kept.at > CARD_SECONDS:
            card = _card_or_none(client)
            kept = self._kept = KeptCard(card, self._clock()) if card else None
        # Another model may have gone live since the answer.
        return kept.card if kept and _describes(kept.card, verdict) else None

    def live_card(self) -> Card | None:
        """Return the card of the live model; None if the service does not answer at once or has no model."""
        with self.client(timeout=CARD_TIMEOUT_SECONDS, retries=0) as client:
            return _card_or_none(client)

    def client(self, *, timeout: float = TIMEOUT_SECONDS, retries: int = 1) -> Client:
        """Return a client for a few requests; it retries only once, because a person is waiting."""
        return Client(
            self._settings.service_url,
            key=self._settings.key,
            timeout=timeout,
            retries=retries,
            longest_wait=LONGEST_WAIT_SECONDS,
        )

    def live_version(self) -> str | None:
        """Return the number of the version that answers; None if the service does not answer or has no model."""
        with self.client() as client:
            card = _card_or_none(client)
        return str(card["model"]["version"]) if card else None


def data_url(png: bytes) -> str:
    """Return a PNG as a ``data:`` URL, which a page shows without another request."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _describes(card: Card, verdict: str) -> bool:
    return bool(card["verdict"]["id"] == verdict)


def _card_or_none(client: Client) -> Card | None:
    try:
        return client.model_card()
    except BucklerError:  # the card is optional; only the answer itself must not fail silently
        return None
