"""The media types of requests: records as a form or as one file, and JSON."""

from pydantic import BaseModel

from services.classifier.interfaces import form
from services.classifier.routing import Body

JSON = "application/json"
DICOM = "application/dicom"


class WholeBody:
    """A body that consists of one file."""

    def __init__(self, content_type: str, most: int = 1) -> None:
        """Begin an empty file; the arguments are those of every reader."""
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        self._content += chunk

    def files(self) -> tuple[bytes, ...]:
        """Return the one file."""
        return (bytes(self._content),)


# The decoder recognises a picture by its content; the media type only says that the body is the file itself.
PICTURES = (
    Body(form.MULTIPART, form.PictureForm, schema=form.schema, codes=form.CODES),
    *(Body(media_type, WholeBody) for media_type in ("image/*", DICOM, JSON, "application/octet-stream")),
)


def json_of(model: type[BaseModel]) -> Body:
    """Return a body of JSON, which is assumed where a request states no content type."""
    return Body(JSON, WholeBody, model=model, assumed=True)
