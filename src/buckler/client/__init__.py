"""A small client of the service: ask, wait where it asks to wait, and believe no receipt unread.

::

    with Client("http://127.0.0.1:3000", key=os.environ.get("BUCKLER_CLIENT_KEY")) as service:
        answer = service.predict(Path("picture.jpg"))
        if answer.decision == "review":
            ...
"""

from buckler.client.errors import ServiceError, UnreachableError
from buckler.client.service import Answer, Client, Detector, Model

__all__ = ["Answer", "Client", "Detector", "Model", "ServiceError", "UnreachableError"]
