"""Requests that need more than one picture and the default form of answer.

The front door reads the body into a ``PictureRequest``. BentoML calls the service in its single thread, and the service
lets the request build its response. The body thus bypasses BentoML's parsing and temporary files, and the model
computes one picture at a time, whatever the interface.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from anyio import from_thread
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from services.classifier.contract import Answer, BatchAnswer, ErrorAnswer, RefusalError, error_answer

if TYPE_CHECKING:  # importing it for real would load TensorFlow into the supervisor process
    from services.classifier.served import Served

Pixels = NDArray[np.float32]  # (image_size, image_size, 3), 0..1
Picture = bytes | Pixels  # the received file, or the received pixels
Classify = Callable[[Picture, str], Answer]

ANSWER_ROUTE = "/answer"  # BentoML's internal route for these requests; clients cannot reach it


class PictureRequest(Protocol):
    """Pictures and the form of their answers."""

    @property
    def count(self) -> int:
        """Number of pictures; each counts towards the limits."""
        ...

    def answer(self, classify: Classify, served: "Served", request_id: str) -> Response:
        """Return the response of the model ``served``; ``classify`` answers each picture under an id of its own.

        Raises:
            RefusalError: The whole request is refused.
        """
        ...


PICTURE_REQUEST: ContextVar[PictureRequest | None] = ContextVar("picture_request", default=None)


@dataclass(frozen=True, slots=True)
class PictureBatch:
    """Several pictures, answered as ``{"answers": [...]}``; an unusable picture has its error in the list."""

    pictures: tuple[bytes, ...]

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.pictures)

    def answer(self, classify: Classify, served: "Served", request_id: str) -> Response:
        """Answer the pictures in order."""
        answers = BatchAnswer(answers=[_item(each) for each in answer_each(self.pictures, classify, request_id)])
        return JSONResponse(answers.model_dump(mode="json"))


def answer_each(pictures: tuple[Picture, ...], classify: Classify, request_id: str) -> list[Answer | RefusalError]:
    """Return an answer or an error for each picture.

    Raises:
        RefusalError: The error is not about one picture: no live model, or the audit log cannot be written.
    """
    items: list[Answer | RefusalError] = []
    for picture, picture_id in one_by_one(pictures, request_id):
        try:
            items.append(classify(picture, picture_id))
        except RefusalError as refusal:
            if not refusal.code.startswith("image_"):
                raise
            items.append(refusal)
    return items


def one_by_one(pictures: Sequence[Picture], request_id: str) -> Iterator[tuple[Picture, str]]:
    """Yield each picture with the id of its answer; a single picture has the id of the request.

    Raises in the worker thread once the request has timed out, so that the remaining pictures are not computed.
    """
    for number, picture in enumerate(pictures, start=1):
        if number > 1:
            from_thread.check_cancelled()
        yield picture, request_id if len(pictures) == 1 else f"{request_id}-{number}"


def _item(each: Answer | RefusalError) -> Answer | ErrorAnswer:
    return each if isinstance(each, Answer) else error_answer(each.code, each.detail)
