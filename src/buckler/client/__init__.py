"""A client of the service: sends pictures, waits and retries when the service asks for it, and verifies receipts.

::

    with Client("http://127.0.0.1:3000", key=os.environ.get("BUCKLER_CLIENT_KEY")) as service:
        answer = service.predict(Path("picture.jpg"))
        if answer.decision == "review":
            ...
"""

from buckler.client.errors import (
    AccessError,
    ImageError,
    RequestError,
    ServiceError,
    UnavailableError,
    UnreachableError,
    UnreadableFileError,
)
from buckler.client.service import Answer, Client, Detector, Explanation, Model, Opinion

__all__ = [
    "AccessError",
    "Answer",
    "Client",
    "Detector",
    "Explanation",
    "ImageError",
    "Model",
    "Opinion",
    "RequestError",
    "ServiceError",
    "UnavailableError",
    "UnreachableError",
    "UnreadableFileError",
]
