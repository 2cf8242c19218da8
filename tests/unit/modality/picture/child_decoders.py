"""Decoders that misbehave, called by test_child in a child process."""

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture.child import Decoded

ONE = np.ones(1, np.uint8)


def rows(content: bytes, count: int, dtype: str = "uint8") -> Decoded:
    pixels = np.frombuffer(content, dtype).reshape(count, -1)
    return Decoded(pixels[:, ::-1], {"bytes": len(content), "process": os.getpid()})


def refuses(content: bytes, code: str) -> Decoded:
    raise UnusableImageError(ErrorCode(code), "expected a small picture")


def fails(content: bytes) -> Decoded:
    raise RuntimeError(f"bad value {content!r} of a patient")


def computes_for_ever(content: bytes) -> Decoded:
    while True:
        pass


def waits_for_ever(content: bytes) -> Decoded:
    time.sleep(1e6)
    return Decoded(ONE)


def crashes(content: bytes) -> Decoded:
    ctypes.string_at(0)
    return Decoded(ONE)


def aborts(content: bytes) -> Decoded:
    os.abort()


def exits(content: bytes) -> Decoded:
    os._exit(0)


def takes_memory(content: bytes, size: int) -> Decoded:
    return Decoded(np.ones(size, np.uint8)[:1])


def prints(content: bytes) -> Decoded:
    sys.stdout.write("a patient's name")
    for stream in (1, 2):
        os.write(stream, content)
    return Decoded(ONE)


def lies(content: bytes) -> Decoded:
    """Send what no honest child sends, in the answer's place."""
    os.write(3, content)
    os._exit(0)


def surroundings(content: bytes) -> Decoded:
    files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir()]
    return Decoded(ONE, {"environment": dict(os.environ), "files": files})


def writes(content: bytes, path: str) -> Decoded:
    Path(path).write_bytes(content)
    return Decoded(ONE)


def limit(content: bytes, name: str) -> Decoded:
    return Decoded(ONE, {"limit": list(resource.getrlimit(getattr(resource, name)))})
