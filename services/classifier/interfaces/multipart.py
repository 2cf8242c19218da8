"""Reads a multipart body chunk by chunk, in the one way that RFC 2046 allows.

A preamble, an epilogue, padding after a boundary and folded headers are read, since the standard lets clients send
them; python_multipart refuses them. What two programs could read differently is malformed: a bare line feed in a
header, a longer line that begins with the boundary, a repeated header or parameter.

Source: RFC 2046, section 5.1.1; RFC 7578; RFC 6266, section 4.1.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError

MAX_LINE = 256  # bytes after a boundary: padding
MAX_HEADERS = 8192  # bytes of one part
_END = b"\r\n\r\n"
_FOLD = re.compile(rb"\r\n[ \t]+")
_PARAMETER = re.compile(r';[ \t]*(?:([^\s;="]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"[ \t]*|[^;"]*))?')
_ESCAPED = re.compile(r"\\(.)")

Headers = Mapping[str, str]  # by name in lower case
Found = Sequence[Headers | bytes]


class MalformedError(ValueError):
    """A body or a header is not what the standard allows; the text says what is wrong and never quotes it."""


class _State(Enum):
    PREAMBLE = auto()
    LINE = auto()  # the rest of the line of a boundary
    HEADERS = auto()
    CONTENT = auto()
    CLOSING = auto()  # the rest of the line of the last boundary
    EPILOGUE = auto()


class Multipart:
    """Parser of one body."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first boundary may begin the body
        self._state = _State.PREAMBLE

    @property
    def complete(self) -> bool:
        """Whether the last boundary was read, and nothing else is in its line."""
        at_end = self._state is _State.CLOSING and not self._buffer.strip(b" \t\r\n")
        return at_end or self._state is _State.EPILOGUE

    def feed(self, chunk: bytes) -> Iterator[Headers | bytes]:
        """Yield the headers of each part that begins, and after them the pieces of its content.

        Raises:
            RefusalError: ``body_malformed``.
        """
        self._buffer += chunk
        before = None
        try:
            while self._state is not before:  # each step waits for more bytes or changes the state
                before = self._state
                yield from _STEPS[before](self)
        except MalformedError as error:
            raise RefusalError(ErrorCode.BODY_MALFORMED, f"the form is malformed: {error}") from error

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _preamble(self) -> Found:
        self._content()
        return ()

    def _content(self) -> Found:
        end = self._buffer.find(self._delimiter)
        if end < 0:
            content = self._take(max(0, len(self._buffer) - len(self._delimiter) + 1))
        else:
            content = self._take(end)
            self._take(len(self._delimiter))
            self._state = _State.LINE
        return (content,) if content else ()

    def _line(self) -> Found:
        if self._buffer.startswith(b"--"):
            self._take(2)
            self._state = _State.CLOSING
        elif (end := self._end_of_line("a boundary")) >= 0:
            self._take(end)  # the end of this line is also the one before the first header
            self._state = _State.HEADERS
        return ()

    def _closing(self) -> Found:
        if self._end_of_line("the last boundary") >= 0:
            self._state = _State.EPILOGUE
        return ()

    def _end_of_line(self, after: str) -> int:
        """Return the place of the line's end; -1 if it has not arrived. Only padding may be before it."""
        end = self._buffer.find(b"\r\n")
        if end > MAX_LINE or (end < 0 and len(self._buffer) > MAX_LINE) or self._buffer[: max(end, 0)].strip(b" \t"):
            raise MalformedError(f"expected the end of the line after {after}")
        return end

    def _headers(self) -> Found:
        end = self._buffer.find(_END)
        if end > MAX_HEADERS or (end < 0 and len(self._buffer) > MAX_HEADERS):
            raise MalformedError("the headers of a part are too long")
        if end < 0:
            return ()
        lines = self._take(end + len(_END))[2 : -len(_END)]
        self._state = _State.CONTENT
        return (_parsed(lines),)

    def _epilogue(self) -> Found:
        self._buffer.clear()
        return ()


_STEPS = {
    _State.PREAMBLE: Multipart._preamble,
    _State.LINE: Multipart._line,
    _State.HEADERS: Multipart._headers,
    _State.CONTENT: Multipart._content,
    _State.CLOSING: Multipart._closing,
    _State.EPILOGUE: Multipart._epilogue,
}


def _parsed(block: bytes) -> Headers:
    """Return the headers in a block of lines.

    Raises:
        MalformedError: A line is no header, or a header is repeated.
    """
    found: dict[str, str] = {}
    text = _FOLD.sub(b" ", block).decode("latin-1")
    for line in text.split("\r\n") if text else ():
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip() or any(each in line for each in "\r\n\0"):
            raise MalformedError("a line of a part's head is no header")
        if name in found:
            raise MalformedError("a part has a header twice")
        found[name] = value.strip(" \t")
    return found


def parameters(header: str) -> dict[str, str]:
    """Return the parameters of a header such as ``form-data; name="image"``, by name in lower case.

    Raises:
        MalformedError: They are not as the standard says, or one is repeated.
    """
    start = header.find(";")
    if start < 0:
        return {}
    found: dict[str, str] = {}
    while start < len(header):
        match = _PARAMETER.match(header, start)
        if not match:
            raise MalformedError("a parameter of a header is not name=value")
        start = match.end()
        if match[1] is None:
            continue
        name, value = match[1].lower(), match[2].strip(" \t")
        if name in found:
            raise MalformedError("a parameter of a header is repeated")
        found[name] = _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
    return found
