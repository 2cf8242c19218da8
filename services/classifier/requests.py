"""What a request asks of the model beyond one picture in and its answer out, and how it is handed over.

A body is read by the front door into an ``Order``; BentoML calls the service in its one thread, as for every picture,
and the service lets the order fill itself. So nothing of it passes BentoML's own parsing or lies in a file, and
computing stays one at a time, whatever the interface.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from anyio import from_thread
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from services.classifier.contract import Answer, Answers, ErrorAnswer, ErrorDetail, RefusalError

if TYPE_CHECKING:  # importing it for real would load TensorFlow into the supervisor process
    from services.classifier.served import Served

Pixels = NDArray[np.float32]  # (image_size, image_size, 3), 0..1
Picture = bytes | Pixels  # a file as it was sent, or pixels where those were sent
Ask = Callable[[Picture, str], Answer]

ORDERS = "/orders"  # BentoML's route to what fills them; of the front door's paths none leads here but by an order


class Order(Protocol):
    """Pictures and the form in which their answers are wanted."""

    @property
    def count(self) -> int:
        """How many pictures it holds; each counts as one sent alone."""
        ...

    def fill(self, ask: Ask, served: "Served", request_id: str) -> Response:
        """Return the answers of ``served``, each got from ``ask`` with a picture and an id of its own.

        Raises:
            RefusalError: There is no answer to give.
        """
        ...


ORDER: ContextVar[Order | None] = ContextVar("order", default=None)


@dataclass(frozen=True, slots=True)
class Batch:
    """Several pictures, answered as ``{"answers": [...]}``, an error in the place of one that is not usable."""

    pictures: tuple[bytes, ...]

    @property
    def count(self) -> int:
        """How many pictures it holds."""
        return len(self.pictures)

    def fill(self, ask: Ask, served: "Served", request_id: str) -> Response:
        """Answer each picture in its turn."""
        answers = Answers(answers=[_item(each) for each in answer_each(self.pictures, ask, request_id)])
        return JSONResponse(answers.model_dump(mode="json"))


def answer_each(pictures: tuple[Picture, ...], ask: Ask, request_id: str) -> list[Answer | RefusalError]:
    """Return an answer for each picture, or why that picture has none.

    Raises:
        RefusalError: It is not about one picture: no model serves, or nothing can be written to the audit log.
    """
    items: list[Answer | RefusalError] = []
    for picture, picture_id in one_by_one(pictures, request_id):
        try:
            items.append(ask(picture, picture_id))
        except RefusalError as refusal:
            if not refusal.code.startswith("image_"):
                raise
            items.append(refusal)
    return items


def one_by_one(pictures: Sequence[Picture], request_id: str) -> Iterator[tuple[Picture, str]]:
    """Give each picture with the id of its answer, the request's own where there is but one.

    Stops the thread it runs in once the request's time is up: what is left would be computed for nobody.
    """
    for number, picture in enumerate(pictures, start=1):
        if number > 1:
            from_thread.check_cancelled()
        yield picture, request_id if len(pictures) == 1 else f"{request_id}-{number}"


def _item(each: Answer | RefusalError) -> Answer | ErrorAnswer:
    if isinstance(each, Answer):
        return each
    return ErrorAnswer(error=ErrorDetail(code=each.code, message=each.detail))
