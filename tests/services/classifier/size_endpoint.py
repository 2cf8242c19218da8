"""Two endpoints that the service does not have: a row and a function for each."""

import io

from PIL import Image
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from buckler.serving.api_keys import Role
from services.classifier.contract import Decision
from services.classifier.endpoints import ENDPOINTS
from services.classifier.interfaces.bodies import PICTURES
from services.classifier.requests import Call
from services.classifier.routing import Endpoint, Format, Table


class Size(BaseModel):
    """The sides of a picture in pixels, and whether a person must look at it."""

    width: int
    height: int
    decision: Decision


class SizeLimit(BaseModel):
    """The limit of a request."""

    bytes: int


async def size(call: Call) -> Response:
    """Return the size of a picture."""
    answered = await call.answer(call.ready(), call.files[0])
    width, height = Image.open(io.BytesIO(call.files[0])).size
    return JSONResponse(Size(width=width, height=height, decision=answered.answer.decision).model_dump())


def size_limit(call: Call) -> Response:
    """Return the limit of a request."""
    return JSONResponse(SizeLimit(bytes=call.pipeline.settings.body_limit_bytes).model_dump())


SIZE = Endpoint(
    name="size",
    method="POST",
    paths=("/size",),
    handler=size,
    summary="Width and height of a picture",
    description="The request has at most {body_limit}.",
    role=Role.PREDICT,
    takes=PICTURES,
    gives=(Format("application/json", (Size,), "The size"),),
    pictures=1,
    audited=True,
)
SIZE_LIMIT = Endpoint(
    name="sizeLimit",
    method="GET",
    paths=("/size",),
    handler=size_limit,
    summary="Largest request",
    gives=(Format("application/json", (SizeLimit,), "The limit"),),
)
TABLE = Table((*ENDPOINTS, SIZE, SIZE_LIMIT))
