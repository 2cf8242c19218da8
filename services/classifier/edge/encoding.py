"""Decompresses the body of a request chunk by chunk, so that a small body that becomes a large one is never in memory.

One encoding and one stream are read, and nothing may follow the stream: otherwise two programs could read two bodies.

Source: RFC 9110, sections 8.4.1 and 15.5.16; RFC 1950; RFC 1952.
"""

import zlib
from collections.abc import Iterator, Sequence

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's numbers for gzip's and zlib's header
_NONE = ("", "identity")
_AT_ONCE = 65_536  # bytes
_FREE_BYTES = 1_048_576  # decompressed, before the ratio counts: a short text of zeros is no attack
MAX_RATIO = 100  # pictures and tensors in JSON stay below 20; zeros reach 1000


class Plain:
    """A body that is not compressed."""

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the bytes as they are."""
        yield chunk

    def end(self) -> None:
        """Do nothing: any number of bytes is complete."""


class Compressed:
    """A body that is one compressed stream."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self._received = self._given = 0

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a chunk decompresses to, at most ``_AT_ONCE`` bytes each time.

        Raises:
            RefusalError: ``body_malformed``; ``body_too_large``: the body grows too much.
        """
        self._received += len(chunk)
        more = bool(chunk)
        while more:
            over = self._stream.eof  # before these bytes
            try:
                piece = self._stream.decompress(chunk, _AT_ONCE)
            except zlib.error as error:
                raise _malformed("the body is not compressed as its header Content-Encoding says") from error
            if over or self._stream.unused_data:
                raise _malformed("expected nothing after the compressed body, got more bytes")
            self._given += len(piece)
            if self._given > max(_FREE_BYTES, MAX_RATIO * self._received):
                raise RefusalError(
                    ErrorCode.BODY_TOO_LARGE,
                    f"expected a compressed body that grows at most {MAX_RATIO} times; send it uncompressed",
                )
            yield piece
            chunk = self._stream.unconsumed_tail
            # zlib may hold more bytes than it may give at once.
            more = bool(chunk) or (len(piece) == _AT_ONCE and not self._stream.eof)

    def end(self) -> None:
        """Check that the stream is complete.

        Raises:
            RefusalError: ``body_malformed``.
        """
        if not self._stream.eof:
            raise _malformed("the compressed body is incomplete")


def decoder(headers: Sequence[str]) -> Plain | Compressed:
    """Return the decoder of a body.

    Args:
        headers: All headers ``Content-Encoding``.

    Raises:
        RefusalError: ``media_type_unsupported``: another encoding, or several.
    """
    named = ",".join(headers).strip().lower()
    if named in _NONE:
        return Plain()
    if named not in _WINDOW_BITS:
        raise RefusalError(
            ErrorCode.MEDIA_TYPE_UNSUPPORTED,
            "expected the content encoding gzip, deflate or none, got another or several",
            {"accept-encoding": "gzip, deflate"},
        )
    return Compressed(_WINDOW_BITS[named])


def _malformed(message: str) -> RefusalError:
    return RefusalError(ErrorCode.BODY_MALFORMED, message)
