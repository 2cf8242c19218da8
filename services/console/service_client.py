"""Queries the service as any client does; the console classifies no picture itself and stores none."""

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
class PictureAnswer:
    """The service's answer to one picture, with what the page shows beside it.

    Attributes:
        answer: The answer.
        picture: The picture, scaled down, as a ``data:`` URL.
        overlay: The picture with the regions that influenced the label, as a ``data:`` URL; None if not available.
        card: The model card; None if not available.
    """

    answer: Answer
    picture: str
    overlay: str | None
    card: dict[str, Any] | None


class ServiceClient:
    """Queries the service of ``BUCKLER_SERVICE_URL``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def classify(self, picture: bytes) -> PictureAnswer:
        """Return the answer to a picture, the overlay and the model card.

        Raises:
            BucklerError: The service does not answer, or refuses the picture.
        """
        with self.client() as client:
            answer = client.predict(picture)
            overlay = _or_none(lambda: data_url(client.explain(picture, label=answer.label)))
            card = _or_none(client.model_card)
        return PictureAnswer(answer, thumbnail(uploads.load_image(picture)), overlay, card)

    def client(self) -> Client:
        """Return a client for a few requests; it retries only once, because a person is waiting."""
        return Client(
            self._settings.service_url,
            key=self._settings.key,
            timeout=TIMEOUT_SECONDS,
            retries=1,
            longest_wait=LONGEST_WAIT_SECONDS,
        )

    def live_version(self) -> str | None:
        """Return the number of the version that answers; None if the service does not answer or has no model."""
        with self.client() as client:
            card = _or_none(client.model_card)
        return str(card["model"]["version"]) if card else None


def data_url(png: bytes) -> str:
    """Return a PNG as a ``data:`` URL, which a page shows without another request."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def thumbnail(image: Image.Image) -> str:
    """Return a picture of at most ``LONGEST_SIDE`` pixels a side, as a ``data:`` URL."""
    shown = image.copy()
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return data_url(buffer.getvalue())


def _or_none(request: Callable[[], T]) -> T | None:
    try:
        return request()
    except BucklerError:  # overlay and card are optional; only the answer itself must not fail silently
        return None
