"""Refuses request heads that another server could read differently, and never leaves HTTP.

h11 accepts heads that RFC 9112 lets a server reject: lines that end in a bare line feed, folded lines, and a length
beside a transfer encoding. A proxy that reads them in another way sees other requests than this process, so that one
client's bytes become another client's request. See docs/adr/0032.
"""

import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_END = b"\r\n\r\n"
_LENGTH, _ENCODING = b"content-length", b"transfer-encoding"


class StrictProtocol(H11Protocol):
    """One connection of uvicorn; a request to upgrade it, to WebSocket for example, is a request like any other.

    A protocol that takes over the connection would bypass everything that counts and limits requests.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        most = self.conn._max_incomplete_event_size
        self.conn = h11.Connection(h11.SERVER, most)
        self.conn._receive_buffer = StrictBuffer()

    def _should_upgrade(self) -> bool:
        return False


class StrictBuffer(ReceiveBuffer):
    """The received bytes of a connection, as h11 reads them."""

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0  # bytes without a bare line feed and without the end of the lines

    def _extract(self, count: int) -> bytearray:
        self._searched = 0
        return super()._extract(count)

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines of a head, or of the trailer of a chunked body, once they are complete.

        Raises:
            h11.LocalProtocolError: The lines are ambiguous; h11 turns it into the client's fault.
        """
        if self._data.startswith(b"\r\n"):
            self._extract(2)
            return []
        end = self._data.find(_END, max(0, self._searched - len(_END)))
        # Before the end is found: a head whose lines all end in a bare line feed has none.
        wrong = _BARE_LINE_FEED.search(self._data, max(0, self._searched - 1), len(self._data) if end < 0 else end)
        if wrong:
            raise h11.LocalProtocolError("a line of the head ends in a bare line feed")
        if end < 0:
            self._searched = len(self._data)
            return None
        lines = self._extract(end + len(_END))[: -len(_END)].split(b"\r\n")
        _check(lines)
        return lines


def _check(lines: list[bytearray]) -> None:
    """Raise if one of ``lines`` is folded, or if they state the length of the body in several ways."""
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise h11.LocalProtocolError("a line of the head is folded")
    fields = [line.partition(b":") for line in lines[1:]]
    lengths = [bytes(value) for name, _, value in fields if name.lower() == _LENGTH]
    encoded = any(name.lower() == _ENCODING for name, _, _ in fields)
    if encoded and (lengths or lines[0].endswith(b"HTTP/1.0")):
        raise h11.LocalProtocolError("the head has a transfer encoding and a length, or an old version of HTTP")
    if len(lengths) > 1 or any(b"," in each for each in lengths):
        raise h11.LocalProtocolError("the head has several lengths")
