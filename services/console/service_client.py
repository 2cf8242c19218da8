"""Asks the service, as any client does; the console judges no picture itself, and keeps none."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from buckler.client import Answer, Client
from buckler.errors import BucklerError
from buckler.modality.picture import uploads
from services.console.settings import Settings

LONGEST_SIDE = 512
TIMEOUT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """What the service says of one picture.

    Attributes:
        picture, overlay: As ``data:`` addresses; ``overlay`` shows where the model looked, None if that failed.
        card: Of the model that answers, None if it could not be had.
    """

    answer: Answer
    picture: str
    overlay: str | None
    card: dict[str, Any] | None


class Service:
    """The service at one address."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def look(self, picture: bytes) -> Look:
        """Return the answer to a picture and where the model looked.

        Raises:
            BucklerError: The service does not answer, or refuses the picture.
        """
        with self.client() as client:
            answer = client.predict(picture)
            overlay = _or_none(lambda: as_address(client.explain(picture, label=answer.label)))
            card = _or_none(client.model_card)
        return Look(answer, thumbnail(uploads.load_image(picture)), overlay, card)

    def client(self) -> Client:
        """Return a client for one exchange: a person waits, so it does not wait for long itself."""
        return Client(
            self._settings.service_url,
            key=self._settings.key,
            timeout=TIMEOUT_SECONDS,
            retries=1,
            longest_wait=LONGEST_WAIT_SECONDS,
        )

    def serving(self) -> str | None:
        """Return which version answers now; None if the service cannot be asked."""
        with self.client() as client:
            card = _or_none(client.model_card)
        return str(card["model"]["version"]) if card else None


def as_address(png: bytes) -> str:
    """Return a PNG as an address that a page can show without asking anybody for it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def thumbnail(image: Image.Image) -> str:
    """Return a picture, small enough for a page, as an address."""
    shown = image.copy()
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return as_address(buffer.getvalue())


def _or_none(what: Callable[[], T]) -> T | None:
    try:
        return what()
    except BucklerError:  # what comes beside the answer may be missing; the answer itself says what is wrong
        return None
