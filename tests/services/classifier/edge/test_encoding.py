"""Compressed bodies: what they contain is read as if it had been sent, and none is decompressed without bound."""

import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.responses import Response

from services.classifier.contract import RefusalError
from services.classifier.edge.encoding import MAX_RATIO, decoder
from services.classifier.requests import Call
from services.classifier.settings import MEBIBYTE, Settings
from tests.services.door import client, code, front_door

CONTENT = bytes(range(256)) * 40
SETTINGS = Settings(body_limit_bytes=8 * MEBIBYTE, require_keys="never", body_timeout_seconds=30)


async def echo(call: Call) -> Response:
    (file,) = call.files
    return Response(file)


def post(content: bytes, encoding: str | list[str], *, at_once: int | None = None, settings=SETTINGS) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(content), at_once or len(content) or 1):
            yield content[start : start + (at_once or len(content))]

    async def ask() -> httpx.Response:
        async with client(front_door(settings, echo)) as http:
            given = [("content-encoding", each) for each in ([encoding] if isinstance(encoding, str) else encoding)]
            headers = [("content-type", "image/jpeg"), *given]
            return await http.post("/predict", content=parts() if at_once else content, headers=headers)

    return asyncio.run(ask())


def bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), mtime=0)


@pytest.mark.parametrize("at_once", [1, 100, None])
@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(CONTENT)),
        ("x-gzip", gzip.compress(CONTENT)),
        (" GZIP ", gzip.compress(CONTENT, 0)),
        ("deflate", zlib.compress(CONTENT)),
        ("identity", CONTENT),
        ("", CONTENT),
    ],
)
def test_a_handler_gets_the_decompressed_body(encoding: str, content: bytes, at_once: int | None):
    assert post(content, encoding, at_once=at_once).content == CONTENT


def test_an_empty_content_and_one_much_larger_than_a_step_are_read_whole():
    for content in (b"", CONTENT * 100):
        assert post(gzip.compress(content), "gzip").content == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        CONTENT,
        gzip.compress(CONTENT)[:-1],
        gzip.compress(CONTENT)[:-8],
        gzip.compress(CONTENT) + b"\0",
        gzip.compress(CONTENT) + gzip.compress(CONTENT),
        zlib.compress(CONTENT),
        gzip.compress(CONTENT)[:-8] + bytes(8),
    ],
    ids=["empty", "plain", "cut", "no check", "a byte more", "two streams", "another encoding", "wrong check"],
)
@pytest.mark.parametrize("at_once", [7, None])
def test_a_body_that_is_not_one_whole_stream_is_malformed(content: bytes, at_once: int | None):
    assert code(post(content, "gzip", at_once=at_once)) == (400, "body_malformed")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip, identity", ["gzip", "gzip"], "gzip;q=1"])
def test_another_encoding_is_refused_with_those_that_are_read(encoding: str | list[str]):
    refused = post(gzip.compress(CONTENT), encoding)
    assert code(refused) == (415, "media_type_unsupported")
    assert refused.headers["accept-encoding"] == "gzip, deflate"


def test_a_bomb_is_refused_before_it_is_decompressed():
    content = bomb(1024 * MEBIBYTE)
    tracemalloc.start()
    try:
        started = time.perf_counter()
        refused = post(content, "gzip", settings=Settings(require_keys="never", body_limit_bytes=10 * MEBIBYTE))
        seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert code(refused) == (413, "body_too_large")
    assert seconds < 2
    assert peak < 12 * MEBIBYTE + 3 * len(content)


def test_the_limit_of_the_body_counts_after_decompression():
    content = gzip.compress(b"".join(number.to_bytes(4, "big") for number in range(3 * MEBIBYTE)))
    assert len(content) < SETTINGS.body_limit_bytes
    assert code(post(content, "gzip")) == (413, "body_too_large")


def test_what_grows_more_than_the_ratio_is_refused_early():
    pieces: list[bytes] = []
    with pytest.raises(RefusalError, match=f"at most {MAX_RATIO} times"):
        pieces.extend(decoder(["gzip"]).pieces(bomb(64 * MEBIBYTE)[:2000]))
    assert sum(map(len, pieces)) <= 1.1 * MEBIBYTE
