"""Refuses request heads that another server could read differently, and never leaves HTTP.

h11 accepts heads that RFC 9112 lets a server reject: lines that end in a bare line feed, folded lines, and a length
beside a transfer encoding. A proxy that reads them in another way sees other requests than this process, so that one
client's bytes become another client's request. See docs/adr/0032.

A request for a whole URL, as clients of a forward proxy send it, becomes one for its path at the host in the URL.
"""

import re
from typing import Any

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_END = b"\r\n\r\n"
_LENGTH, _ENCODING, _HOST = b"content-length", b"transfer-encoding", b"host"
_ABSOLUTE = re.compile(rb"([^\s:]+) https?://(\S*) (HTTP/1\.[01])", re.IGNORECASE)
_AUTHORITY = re.compile(rb"(?:\[[0-9a-f:.]+\]|[^\s:/?#@\[\]]+)(?::[0-9]*)?", re.IGNORECASE)


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
        return _in_origin_form(lines)


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


def _in_origin_form(lines: list[bytearray]) -> list[bytearray]:
    """Return a head whose target is a path, and whose host is the one of the target: RFC 9112, section 3.2.2.

    Raises:
        h11.LocalProtocolError: The target is a URL without a host, or with a user.
    """
    found = _ABSOLUTE.fullmatch(lines[0])
    if not found:
        return lines
    method, url, version = found.groups()
    authority = re.split(rb"[/?#]", url, maxsplit=1)[0]
    if not _AUTHORITY.fullmatch(authority) or b"#" in url:
        raise h11.LocalProtocolError("the target in the head has no host, or a user or fragment")
    target = url[len(authority) :]
    if not target.startswith(b"/"):  # the request is for the server itself, section 3.2.4
        target = b"*" if method.upper() == b"OPTIONS" and not target else b"/" + target
    hosts = [place for place, line in enumerate(lines) if line.partition(b":")[0].lower() == _HOST and place]
    if len(hosts) > 1 or (not hosts and version.upper() == b"HTTP/1.1"):
        return lines  # h11 refuses it
    others = [line for place, line in enumerate(lines) if place not in (0, *hosts)]
    return [bytearray(b"%b %b %b" % (method, target, version)), bytearray(b"Host: " + authority), *others]
