"""Reads request bodies within their limits; they stay in memory."""

from urllib.parse import parse_qs

from starlette.requests import Request

from buckler.errors import BucklerError
from services.console.sessions import TOKEN_HEADER

FORM_LIMIT_BYTES = 4096


class TooLargeError(BucklerError):
    """A request body has more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"expected at most {limit} bytes, got more")
        self.limit = limit


async def content(request: Request, limit: int) -> bytes:
    """Return a request's body, of at most ``limit`` bytes.

    Raises:
        TooLargeError: The body is larger.
    """
    found = bytearray()
    async for chunk in request.stream():  # a form with a file would be written to disk
        found += chunk
        if len(found) > limit:
            raise TooLargeError(limit)
    return bytes(found)


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a form; of a repeated field, the last."""
    if not hasattr(request.state, "form"):  # a body can be read only once
        body = await content(request, FORM_LIMIT_BYTES)
        request.state.form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    fields: dict[str, str] = request.state.form
    return fields


async def token(request: Request) -> str:
    """Return the token in the header or, for a form, in the body; empty if there is none."""
    if TOKEN_HEADER in request.headers:
        return request.headers[TOKEN_HEADER]
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return (await form(request)).get("token", "")
    return ""
