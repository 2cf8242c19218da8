"""The side of `child` that runs in the child process: lowers its own rights, then answers calls."""

import fcntl
import importlib
import json
import math
import os
import resource
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from buckler.error_codes import ErrorCode
from buckler.errors import UnusableImageError
from buckler.modality.picture.child import ANSWER, MEMORY, READY, REQUEST, Output

_OPEN_FILES = 128
_FILE_BYTES = 1_000_000  # of a file that it writes: decoders catch their libraries' messages in one
_LOOK_SECONDS = 10.0  # between two looks whether the parent is alive
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python 3.11 does not name on all systems
_NOTHING = np.empty(0, np.uint8)


def main(parent: int) -> None:
    """Answer calls on standard input until the process ``parent`` closes it or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    requests, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    for pipe in (requests, answers):
        with suppress(OSError):  # small pipes are slower, nothing else
            fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)
    _lower_limits()
    answers.write(READY)
    answers.flush()
    # From here on, what a library prints must neither mix with the answers nor bring parts of files into a log.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    while _call_waits(requests, parent):
        _answer(requests, answers)


def _lower_limits() -> None:
    """Allow no new process or thread, no large file, few open ones, and no image of the memory on disk."""
    with suppress(OSError):  # when memory is short, the kernel ends this process first, not the service
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    limits = {resource.RLIMIT_NPROC: 0, resource.RLIMIT_CORE: 0}
    limits |= {resource.RLIMIT_FSIZE: _FILE_BYTES, resource.RLIMIT_NOFILE: _OPEN_FILES}
    for limit, most in limits.items():
        resource.setrlimit(limit, (most, most))


def _call_waits(requests: IO[bytes], parent: int) -> bool:
    """Wait for the next call, or for the parent's end; a pipe alone stays open if another process has inherited it.

    The death signal of Linux would not do: it comes when the thread ends that started this process.
    """
    while not select.select([requests], [], [], _LOOK_SECONDS)[0]:
        if os.getppid() != parent:
            return False
    return bool(requests.peek(1))  # type: ignore[attr-defined]


def _answer(requests: IO[bytes], answers: IO[bytes]) -> None:
    json_length, length, memory = REQUEST.unpack(requests.read(REQUEST.size))
    decoder, arguments, seconds = json.loads(requests.read(json_length))
    content = requests.read(length)
    _limit_call(memory, seconds)
    try:
        head, pixels = _decoded(decoder, content, arguments)
    finally:
        _limit_call(resource.RLIM_INFINITY, seconds)
    answers.write(ANSWER.pack(len(head), pixels.nbytes) + head)
    answers.write(pixels.reshape(-1).view(np.uint8).data)
    answers.flush()


def _limit_call(memory: int, seconds: int) -> None:
    """Limit this process's private memory, and its computing time from now on: beyond it, the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = math.ceil(used.ru_utime + used.ru_stime) + seconds
    for limit, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, end)):
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))


def _decoded(decoder: str, content: bytes, arguments: list[Any]) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Return the answer's JSON and pixels."""
    module, function = decoder.split(":")
    try:
        decoded: Output = getattr(importlib.import_module(module), function)(content, *arguments)
        pixels = np.ascontiguousarray(decoded.pixels)
        return _head(pixels, facts=dict(decoded.facts)), pixels
    except UnusableImageError as error:
        return _head(_NOTHING, error=error.code.value, message=str(error)), _NOTHING
    except MemoryError:
        return _head(_NOTHING, error=MEMORY), _NOTHING
    except Exception:
        # A decoder's own message may quote the file, which may name a patient.
        message = "expected a complete picture, decoding failed; save it again"
        return _head(_NOTHING, error=ErrorCode.IMAGE_UNREADABLE.value, message=message), _NOTHING


def _head(pixels: np.ndarray[Any, Any], **members: Any) -> bytes:
    found = {"dtype": pixels.dtype.name, "shape": pixels.shape, "error": None, "message": "", "facts": {}}
    return json.dumps({**found, **members}).encode()
