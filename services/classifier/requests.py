"""One request: its state in one object, whatever its format and number of pictures."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray
from starlette.datastructures import Headers, QueryParams

from buckler.error_codes import ErrorCode, Group
from buckler.modality.base import Modality
from services.classifier.contract import Answer, Feedback, RefusalError
from services.classifier.routing import Format, Table
from services.classifier.settings import Settings
from services.classifier.threads import Threads

if TYPE_CHECKING:  # importing them for real would load the engine into the supervisor process
    from PIL import Image

    from buckler.models.explanation import Relevance
    from services.classifier.served import Served

ANONYMOUS = "anonymous"

Pixels = NDArray[np.float32]  # an input of the model, 0..1
Picture = bytes | Pixels  # the received file, or the received values


def new_id() -> str:
    """Return an id for a request, its answer and its log line; a client cannot choose it."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request.

    Attributes:
        client: The id of its key, never the key; ``anonymous`` without one.
        from_watch: Whether it is the watch, whose test pictures do not count as traffic.
    """

    client: str = ANONYMOUS
    from_watch: bool = False


@dataclass(frozen=True, slots=True)
class PictureRequest:
    """Pictures to answer: every request with pictures becomes one, whatever its format.

    Attributes:
        id: Id of the request; of several pictures each answer has an id of its own, derived from it.
        served: The model that answers; it stays the same for the whole request.
        pictures: The pictures.
        sender: Who sent them.
        receipt: Whether each answer carries a signed receipt.
        explained: Whether each answer comes with a heat map.
        label: The label that the heat map explains; None for the predicted one.
        frame: The frame of the file that is answered, from 1; None if it has only one.
    """

    id: str
    served: "Served"
    pictures: tuple[Picture, ...]
    sender: Sender = Sender()
    receipt: bool = False
    explained: bool = False
    label: str | None = None
    frame: int | None = None

    def picture_id(self, number: int) -> str:
        """Return the id of the answer to picture ``number``, counted from 1."""
        return self.id if len(self.pictures) == 1 else f"{self.id}-{number}"


HeatMapState = Literal["shown", "flat", "unreliable"]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Which places of a picture decide between a label and the others.

    Attributes:
        label: The label.
        picture: The picture, upright, RGB, scaled down to be shown.
        relevance: ``(h, w)`` in 0..1, to be stretched over the picture.
        modality: Of the input.
        reliable: Whether the model's heat maps may be shown.
    """

    label: str
    picture: "Image.Image"
    relevance: "Relevance"
    modality: Modality
    reliable: bool = True

    @property
    def state(self) -> HeatMapState:
        """Whether the map is shown: not an unreliable one, nor one in which no place stands out."""
        if not self.reliable:
            return "unreliable"
        return "shown" if self.relevance.any() else "flat"


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one picture, and its heat map if one was requested."""

    answer: Answer
    heat_map: HeatMap | None = None

    @property
    def explained(self) -> HeatMap:
        """The heat map of an answer for which one was requested."""
        assert self.heat_map is not None  # noqa: S101 - for the type checker
        return self.heat_map


class Pipeline(Protocol):
    """What handlers need of the service."""

    settings: Settings
    table: Table
    schema: Callable[[], dict[str, Any]]
    drawing: Threads
    parsing: Threads

    @property
    def live(self) -> "Served | None":
        """The live model; None without one."""
        ...

    @property
    def receipt_key(self) -> Ed25519PublicKey | None:
        """The key that verifies the receipts; None if none are signed."""
        ...

    async def answer(self, request: PictureRequest, number: int) -> Answered:
        """Return the answer to picture ``number`` of a request, counted from 1.

        Raises:
            RefusalError: The picture is unusable, or the whole request is refused; the code says which.
        """
        ...

    def record_feedback(self, feedback: Feedback, sender: Sender) -> int:
        """Record an opinion about an answer and return the number of its line in the audit log.

        Raises:
            RefusalError: ``answer_unknown``, ``label_unknown``, ``body_malformed``, ``audit_unavailable`` or
                ``feedback_unavailable``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that has passed the edge, as handlers get it.

    Attributes:
        id: Id of the request, in its answer and its log line.
        sender: Who sent it.
        receipt: Whether it asks for a receipt.
        format: The format of the answer that it asks for.
        path, query, headers: Parameters of its path and of its query string, and its headers.
        files: The files of its body.
        pipeline: The service.
        reserve: Counts that many pictures against the limits until the answer; raises ``RefusalError``.
    """

    id: str
    format: Format
    pipeline: Pipeline
    sender: Sender = Sender()
    receipt: bool = False
    path: Mapping[str, str] = field(default_factory=dict)
    query: QueryParams = field(default_factory=QueryParams)
    headers: Headers = field(default_factory=Headers)
    files: tuple[bytes, ...] = ()
    reserve: Callable[[int], None] = lambda _: None

    def live(self) -> "Served":
        """Return the live model. Call it once for a request: another one may go live before the answer is complete.

        Raises:
            RefusalError: ``no_verified_model``.
        """
        served = self.pipeline.live
        if served is None:
            raise RefusalError(ErrorCode.NO_VERIFIED_MODEL)
        return served

    def ready(self) -> "Served":
        """Return the live model if it may answer; as ``live``.

        Raises:
            RefusalError: ``no_verified_model`` or ``model_withdrawn``.
        """
        served = self.live()
        if served.withdrawn:
            raise RefusalError(ErrorCode.MODEL_WITHDRAWN)
        return served

    async def answer(self, served: "Served", picture: Picture, **wishes: Any) -> Answered:
        """Return the answer of ``served`` to one picture.

        Args:
            served: The live model.
            picture: The picture.
            wishes: ``explained``, ``label`` and ``frame`` of a `PictureRequest`.

        Raises:
            RefusalError: The picture is unusable, or as `Pipeline.answer`.
        """
        return await self.pipeline.answer(self._request(served, (picture,), **wishes), 1)

    async def answers(self, served: "Served", pictures: Sequence[Picture]) -> AsyncIterator[Answered | RefusalError]:
        """Yield for each picture the answer of ``served``, or the error that concerns only this picture.

        Raises:
            RefusalError: ``overloaded``, ``too_many_at_once``; or the whole request is refused.
        """
        request = self._request(served, pictures)
        for number in range(1, len(pictures) + 1):
            try:
                yield await self.pipeline.answer(request, number)
            except RefusalError as refusal:
                if refusal.code.group is not Group.IMAGE:
                    raise
                yield refusal

    def _request(self, served: "Served", pictures: Sequence[Picture], **wishes: Any) -> PictureRequest:
        self.reserve(len(pictures))
        return PictureRequest(
            id=self.id,
            served=served,
            pictures=tuple(pictures),
            sender=self.sender,
            receipt=self.receipt,
            **wishes,
        )
