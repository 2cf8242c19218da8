"""Fuzz target: the bytes of a connection, as the protocol reads request heads and bodies."""

import re

import h11

from services.classifier.edge.heads import StrictBuffer
from tests.fuzz.contract import require

LONGEST_HEAD = 65_536
STEPS = (1, 7)  # bytes that arrive at once


def heads(data: bytes) -> bool:
    """Requests on one connection, the bytes of which arrive in different pieces."""
    whole = _read(data, len(data) or 1)
    for step in STEPS:
        require(_read(data, step) == whole, f"the requests depend on how their bytes arrive, {step} at a time")
    accepted = bool(whole) and whole[0][0] == "head"
    if accepted:
        _check_head(data)
    return accepted


def _read(data: bytes, step: int) -> list[tuple[str, object]]:
    """Return heads, bodies and the end of all requests."""
    connection = h11.Connection(h11.SERVER, LONGEST_HEAD)
    connection._receive_buffer = StrictBuffer()
    found: list[tuple[str, object]] = []
    for start in range(0, len(data), step):
        try:
            connection.receive_data(data[start : start + step])
            if not _take(connection, found):
                return found
        except h11.RemoteProtocolError:
            return [*found, ("refused", None)]
    return found


def _take(connection: h11.Connection, found: list[tuple[str, object]]) -> bool:
    """Add what the connection has read; return whether it reads on."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return True
        if isinstance(event, h11.Request):
            found.append(("head", (event.method, event.target, tuple(event.headers))))
        elif isinstance(event, h11.Data):
            before = found.pop()[1] if found[-1][0] == "body" else b""
            found.append(("body", bytes(before) + bytes(event.data)))  # type: ignore[call-overload]
        elif isinstance(event, h11.EndOfMessage):
            found.append(("end", tuple(event.headers)))
            connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                return False
            connection.start_next_cycle()
        else:
            return False


def _check_head(data: bytes) -> None:
    """Check that another server cannot read the first head in another way."""
    head = data.partition(b"\r\n\r\n")[0]
    require(not re.search(rb"(?<!\r)\n", head), "a bare line feed was accepted")
    lines = head.split(b"\r\n")[1:]
    require(not any(line[:1] in (b" ", b"\t") for line in lines), "a folded line was accepted")
    names = [line.partition(b":")[0].lower() for line in lines]
    require(names.count(b"content-length") + (b"transfer-encoding" in names) <= 1, "several lengths were accepted")
