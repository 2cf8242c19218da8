"""MLflow's client with a limit for each call: no server makes a command, a page or the service wait without end.

MLflow's own defaults are 120 s for each part of an answer, eight times. They do not end for a server that sends a byte
a second, and add up for one that answers nothing.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

TIMEOUT_ENV: Final = "MLFLOW_HTTP_REQUEST_TIMEOUT"
# For every process that asks MLflow; the environment's own values take precedence.
DEFAULTS: Final = {
    TIMEOUT_ENV: "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it may ask for hours
}
CALL_SECONDS = 30.0  # for one call, retries included
# Files may be large, and a server may copy them to another storage before it answers.
UPLOADS: Final = frozenset({"log_artifact", "log_artifacts", "log_model_artifacts"})
UPLOAD_SECONDS, UPLOAD_ANSWER_SECONDS = 3600.0, 300

T = TypeVar("T")


def set_defaults() -> None:
    """Set the variables of ``DEFAULTS`` that the environment does not set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


class BoundedClient:
    """Has the methods of ``client``; each call ends within its limit.

    Raises:
        TimeoutError: The server has not answered by then.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found
        if name in UPLOADS:
            return lambda *args, **options: _uploading(lambda: found(*args, **options))
        return lambda *args, **options: within(_call_seconds(), lambda: found(*args, **options))


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of ``call``, which runs in a thread of its own, or raise its exception.

    Raises:
        TimeoutError: It has not ended after ``seconds``; it is made to end.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="mlflow")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _end(thread)
        raise TimeoutError(f"no answer within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def _end(thread: threading.Thread) -> None:
    """Let ``thread`` end with its next step, or when its socket times out; a poller would collect such threads."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def _call_seconds() -> float:
    """Return the limit of a call: never less than what the operator allows for one answer."""
    configured = os.environ.get(TIMEOUT_ENV, "")
    return max(CALL_SECONDS, float(configured) + 1) if configured.isdecimal() else CALL_SECONDS


def _uploading(call: Callable[[], T]) -> T:
    before = os.environ.get(TIMEOUT_ENV)
    if before == DEFAULTS[TIMEOUT_ENV]:
        os.environ[TIMEOUT_ENV] = str(UPLOAD_ANSWER_SECONDS)
    try:
        return within(UPLOAD_SECONDS, call)
    finally:
        if before is not None:
            os.environ[TIMEOUT_ENV] = before
