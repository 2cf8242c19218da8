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
from buckler.modality.picture.child import Output

ONE = np.ones(1, np.uint8)


def rows(content: bytes, count: int, dtype: str = "uint8") -> Output:
    pixels = np.frombuffer(content, dtype).reshape(count, -1)
    return Output(pixels[:, ::-1], {"bytes": len(content), "process": os.getpid()})


def refuses(content: bytes, code: str) -> Output:
    raise UnusableImageError(ErrorCode(code), "expected a small picture")


def fails(content: bytes) -> Output:
    raise RuntimeError(f"bad value {content!r} of a patient")


def computes_for_ever(content: bytes) -> Output:
    while True:
        pass


def waits_for_ever(content: bytes) -> Output:
    time.sleep(1e6)
    return Output(ONE)


def crashes(content: bytes) -> Output:
    ctypes.string_at(0)
    return Output(ONE)


def aborts(content: bytes) -> Output:
    os.abort()


def exits(content: bytes) -> Output:
    os._exit(0)


def takes_memory(content: bytes, size: int) -> Output:
    return Output(np.ones(size, np.uint8)[:1])


def prints(content: bytes) -> Output:
    sys.stdout.write("a patient's name")
    for stream in (1, 2):
        os.write(stream, content)
    return Output(ONE)


def lies(content: bytes) -> Output:
    """Send what no honest child sends, in the answer's place."""
    os.write(3, content)
    os._exit(0)


def surroundings(content: bytes) -> Output:
    files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir()]
    return Output(ONE, {"environment": dict(os.environ), "files": files})


def writes(content: bytes, path: str) -> Output:
    Path(path).write_bytes(content)
    return Output(ONE)


def limit(content: bytes, name: str) -> Output:
    return Output(ONE, {"limit": list(resource.getrlimit(getattr(resource, name)))})
