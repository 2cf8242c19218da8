"""Runs decoders of foreign formats in a child process with bounded memory and time.

The libraries behind HEIC, AVIF, TIFF or JPEG 2000 are large, written in C and C++, and read files of strangers. A file
that makes one of them crash, hang or take all memory costs a child process, never the service. The child gets the file
and returns pixels, with facts as JSON: even a decoder that a file has taken over runs no code here. It inherits neither
environment nor open files, and writes no large file. Its own side is `child_main`.
"""

import atexit
import json
import logging
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError, UnusableImageError
from buckler.modality.picture.decode_budget import MAX_PIXELS

PROCESSES: Final = 2
"""Most children at the same time; further calls wait."""

CPU_SECONDS: Final = 10
"""Computing time of one call; on a busy machine that is longer by the clock, and no picture becomes unreadable."""

SECONDS: Final = 60.0
"""Time of one call by the clock, for a decoder that waits without computing."""

BYTES_A_PIXEL: Final = 40
"""Memory for each of the most pixels that a call allows. JPEG 2000 and AVIF hold several copies of wide samples."""

FIXED_BYTES: Final = 256_000_000
"""Memory for Python, libraries and small buffers, besides the file and its pixels."""

CALLS: Final = 500
"""Calls after which a child is replaced, so that what a library leaks stays small."""

REQUEST: Final = struct.Struct("<IQQ")
"""Lengths of the JSON and of the file that follow, and the limit on memory, in bytes."""

ANSWER: Final = struct.Struct("<IQ")
"""Lengths of the JSON and of the pixels that follow."""

READY: Final = b"+"
"""Sent by a child that is ready for its first call."""

MEMORY: Final = "memory"
"""Stands in an answer's place for an error code."""

_START_SECONDS = 60.0
_MAX_JSON = 8_000_000  # with a colour profile
_DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Output:
    """What a decoder returns: pixels, and facts that JSON can hold (mode, orientation, remarks)."""

    pixels: NDArray[Any]
    facts: Mapping[str, Any] = field(default_factory=dict)


def run(decoder: str, content: bytes, *arguments: Any, most_pixels: int = MAX_PIXELS) -> Output:
    """Return what ``decoder`` makes of ``content``, called in a child process.

    Args:
        decoder: ``module:function``. The function takes ``content`` and ``arguments`` and returns `Output`, with
            pixels of an integer type or float32. It checks a picture's size before it decodes it. Its
            ``UnusableImageError`` is raised here again.
        content: The file.
        *arguments: Further arguments, such as JSON can hold.
        most_pixels: Most pixels of the picture; they bound the child's memory.

    Raises:
        UnusableImageError: The decoder raised it; or it failed in another way, crashed, or exceeded the limits on
            memory and time (``image_unreadable``).
        BucklerError: No child starts.
    """
    memory = FIXED_BYTES + 2 * len(content) + BYTES_A_PIXEL * most_pixels
    request = json.dumps([decoder, arguments, CPU_SECONDS]).encode()
    with _pools[-1].worker() as worker:
        return worker.call(request, content, memory)


class _Worker:
    """One child, used by one thread at a time."""

    def __init__(self) -> None:
        """Start the child.

        Raises:
            BucklerError: It does not start.
        """
        self._calls, self._killed, self._answered = 0, False, True
        # The paths of this process, because `-I` ignores PYTHONPATH; nothing else of its environment.
        paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100
        code = f"import sys; sys.path[:] = {paths!r}; from {__package__}.child_main import main; main({os.getpid()})"
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-B", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                cwd="/",
            )
            with self._killed_after(_START_SECONDS):
                ready = cast(BufferedReader, self._process.stdout).read(len(READY))
        except OSError as error:
            raise BucklerError(f"cannot start the process that decodes pictures: {error}") from error
        if ready != READY:
            self.end()
            raise BucklerError("the process that decodes pictures ended at its start; see its messages above")

    @property
    def reusable(self) -> bool:
        """Whether the child can take another call."""
        return self._answered and not self._killed and self._calls < CALLS and self._process.poll() is None

    def call(self, request: bytes, content: bytes, memory: int) -> Output:
        """Return the child's answer; errors as for `run`."""
        self._calls, self._answered = self._calls + 1, False
        try:
            with self._killed_after(SECONDS):
                self._send(request, content, memory)
                decoded = self._receive(memory)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            self.end()
            log.warning("a process that decodes pictures ended with code %s", self._process.returncode)
            raise _beyond_limits(memory) from error
        self._answered = True
        if isinstance(decoded, UnusableImageError):
            raise decoded
        return decoded

    def end(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # the child did not read everything
                cast(IO[bytes], pipe).close()

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill a child that takes longer, which ends all reading and writing."""
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # either it has killed the child, or it never will

    def _kill(self) -> None:
        self._killed = True
        self._process.kill()

    def _send(self, request: bytes, content: bytes, memory: int) -> None:
        to = cast(IO[bytes], self._process.stdin)
        to.write(REQUEST.pack(len(request), len(content), memory) + request)
        to.write(content)
        to.flush()

    def _receive(self, memory: int) -> Output | UnusableImageError:
        """Return the answer; whatever a child sends, it makes this process neither run code nor take more memory."""
        json_length, length = ANSWER.unpack(self._read(ANSWER.size))
        if json_length > _MAX_JSON or length > memory:
            raise ValueError("the answer is too long")
        head = json.loads(self._read(json_length))
        if head["dtype"] not in _DTYPES or math.prod(head["shape"]) * np.dtype(head["dtype"]).itemsize != length:
            raise ValueError("the pixels have another length than their shape")
        pixels = np.empty(head["shape"], head["dtype"])
        self._read_into(pixels.reshape(-1).view(np.uint8).data)
        if head["error"] == MEMORY:
            return _beyond_limits(memory)
        if head["error"]:
            return UnusableImageError(ErrorCode(head["error"]), str(head["message"]))
        return Output(pixels, dict(head["facts"]))

    def _read(self, count: int) -> bytes:
        content = bytearray(count)
        self._read_into(memoryview(content))
        return bytes(content)

    def _read_into(self, buffer: memoryview) -> None:
        while buffer:
            count = cast(BufferedReader, self._process.stdout).readinto(buffer)
            if not count:
                raise EOFError
            buffer = buffer[count:]


class _Pool:
    """Children that wait for a call. None starts before the first call."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(PROCESSES)
        self._idle: list[_Worker] = []

    @contextmanager
    def worker(self) -> Iterator[_Worker]:
        """Return a child for one call; wait until one is free."""
        with self._free:
            worker = self._taken()
            try:
                yield worker
            finally:
                if worker.reusable:
                    self._idle.append(worker)
                else:
                    worker.end()

    def _taken(self) -> _Worker:
        with suppress(IndexError):
            while True:  # appending to a list and taking from it need no lock
                worker = self._idle.pop()
                if worker.reusable:
                    return worker
                worker.end()
        return _Worker()

    def end(self) -> None:
        """End the children that wait."""
        with suppress(IndexError):
            while True:
                self._idle.pop().end()


_pools = [_Pool()]
atexit.register(lambda: _pools[-1].end())
# A forked process cannot share its parent's children. It keeps their objects, which would warn when they are deleted.
os.register_at_fork(after_in_child=lambda: _pools.append(_Pool()))


def _beyond_limits(memory: int) -> UnusableImageError:
    return UnusableImageError(
        ErrorCode.IMAGE_UNREADABLE,
        f"expected a picture that can be decoded within {CPU_SECONDS} s and {memory // 1_000_000} MB, got one that "
        "cannot; save it again",
    )
