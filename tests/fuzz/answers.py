"""Fuzz target: the answers that a client gets, from a service that may be another program."""

import json
from functools import cache
from typing import Any

import httpx

from buckler.client import Client, ServiceError
from buckler.client.errors import UnreachableError
from buckler.errors import ReceiptError
from tests.fuzz.contract import require
from tests.fuzz.documents import PUBLIC, split
from tests.fuzz.mutation import of_json

PICTURE = b"pixels"
LONGEST_MESSAGE = 1_000


def answers(data: bytes) -> bool:
    """The status and headers of a response in the first line, as JSON, and its body."""
    first, body = split(data)
    status, headers = _head(first)
    found = [_asked(status, headers, body, call) for call in (_one, _checked, _several, _explained, _card)]
    return any(found)


def _head(line: bytes) -> tuple[int, dict[str, str]]:
    try:
        given = json.loads(line)
        status, headers = int(given["status"]), {"retry-after": str(given["retry-after"]).encode("ascii").decode()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 200, {}
    return (status if 200 <= status < 600 and not 300 <= status < 400 else 200), headers


def _asked(status: int, headers: dict[str, str], body: bytes, call: Any) -> bool:
    """Return whether a client accepts the answer."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=body))
    client = _client(call is _checked)
    client._http._transport = transport
    try:
        call(client)
    except (ServiceError, ReceiptError, UnreachableError) as error:
        require(len(str(error)) <= LONGEST_MESSAGE + len(body), "a long message")
        return False
    return True


@cache
def _client(checks_receipts: bool) -> Client:
    """Return a client; to create one takes a tenth of a second, for the certificates."""
    return Client("http://service", receipt_key=PUBLIC if checks_receipts else None, sleep=lambda _: None)


def _one(client: Client) -> None:
    answer = client.predict(PICTURE)
    require(answer.receipt is None, "a receipt that was not checked")
    require(isinstance(answer.label, str) and answer.decision in ("accept", "review"), "another kind of answer")


def _checked(client: Client) -> None:
    require(client.predict(PICTURE).receipt is not None, "an answer without receipt")


def _several(client: Client) -> None:
    require(len(client.predict_many([PICTURE, PICTURE])) == 2, "another number of answers")


def _explained(client: Client) -> None:
    require(isinstance(client.explain(PICTURE).overlay, bytes), "no picture")


def _card(client: Client) -> None:
    require(isinstance(client.model_card(), dict), "no card")


MUTATORS = {"answers": of_json(split)}
