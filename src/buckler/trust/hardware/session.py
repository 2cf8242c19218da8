"""Sessions with PKCS#11 tokens: one logged-in session a token and process, opened again after the token was lost.

A session is kept, because a log-in for each signature takes most of its time and fills the audit log of a module. A
login counts for the whole process, so keys of one token share it. PKCS#11 libraries know neither threads (without
further arrangements) nor forks: one thread at a time uses a library, and a forked process starts it again.
"""

import ctypes
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pkcs11
from pkcs11 import PKCS11Error, Session, Token, TokenFlag

from buckler.errors import BucklerError
from buckler.trust.hardware import pin
from buckler.trust.hardware.uri import KeyUri

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib

T = TypeVar("T")

log = logging.getLogger(__name__)

_WRONG_PIN = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange)


class MissingError(BucklerError):
    """Not exactly one token or key fits the URI: perhaps the token was lost, or logged out and hides its keys."""


class Module:
    """One PKCS#11 library in one process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._library: lib | None = None
        self._sessions: dict[tuple[str | None, str | None, bool], Session] = {}
        self._stale = False  # whether the library starts again before it is used again

    def use(self, uri: KeyUri, work: Callable[[Session], T], *, writes: bool = False) -> T:
        """Return the result of ``work`` in a logged-in session; if the token fails, once more in a new one.

        Args:
            uri: Names the token.
            work: Called twice after a failure, unless it changes the token.
            writes: Whether ``work`` changes the token.

        Raises:
            BucklerError: The module, the token or the PIN cannot be used.
            PKCS11Error: The token refused the work.
        """
        with self._lock:
            if self._stale:
                self._restart()
            try:
                return work(self._session(uri, writes=writes))
            except PKCS11Error as error:
                if writes:
                    raise
                log.info("%s: %s; the session is opened again", uri.token_name, describe(error))
            except MissingError as error:
                log.info("%s; the session is opened again", error)
            self._restart()
            return work(self._session(uri, writes=writes))

    def _session(self, uri: KeyUri, *, writes: bool) -> Session:
        place = (uri.token, uri.serial, writes)
        if place in self._sessions and not _alive(self._sessions[place]):
            log.info("%s: the token has closed the session, which is opened again", uri.token_name)
            self._restart()
        if place not in self._sessions:
            token = self._token(uri)
            self._stale = True
            self._sessions[place] = _log_in(token, uri, writes=writes)
            self._stale = False
        return self._sessions[place]

    def _token(self, uri: KeyUri) -> Token:
        serial = uri.serial.encode() if uri.serial else None
        tokens = list(self._loaded().get_tokens(uri.token, serial, TokenFlag.TOKEN_INITIALIZED))
        if len(tokens) == 1:
            return tokens[0]
        if not tokens:
            raise MissingError(f"expected a token with {uri.token_name} in {self._path}, found none; is it connected?")
        serials = ", ".join(sorted(token.serial.decode(errors="replace") for token in tokens))
        raise MissingError(
            f"expected one token with {uri.token_name} in {self._path}, found {len(tokens)};"
            f" add serial= of one of them to the URI: {serials}"
        )

    def _loaded(self) -> "lib":
        if self._library is None:
            try:
                _bind(self._path)
                library = pkcs11.lib(str(self._path))
                if _forked(self._path):
                    # The parent's state of the library is a copy, which its sockets and handles do not survive.
                    with suppress(PKCS11Error):
                        library.finalize()
                    library.initialize()
            except (OSError, PKCS11Error) as error:
                raise BucklerError(f"cannot load the PKCS#11 module {self._path}: {describe(error)}") from error
            self._library = library
        return self._library

    def _restart(self) -> None:
        """End all sessions and start the library again: some find a token that came back only then."""
        self._sessions.clear()
        library = self._loaded()
        with suppress(PKCS11Error):
            library.finalize()
        library.initialize()
        self._stale = False


def _bind(path: Path) -> None:
    """Load the library so that it uses its own libcrypto; python-pkcs11 then finds it loaded.

    TensorFlow offers the functions of its own, incompatible one to every library that is loaded after it.

    Raises:
        OSError: It cannot be loaded.
    """
    ctypes.CDLL(str(path), mode=os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))  # musl has no RTLD_DEEPBIND


# By process, so that a forked one takes neither the sessions nor a lock that a thread of the parent held.
_modules: dict[tuple[int, Path], Module] = {}


def module_of(uri: KeyUri) -> Module:
    """Return the module of ``uri`` in this process."""
    path = uri.module.resolve()  # a library that is loaded by two names is one
    return _modules.setdefault((os.getpid(), path), Module(path))


def _forked(path: Path) -> bool:
    return any(known == path and process != os.getpid() for process, known in list(_modules))


def _alive(session: Session) -> bool:
    """Return whether the token still knows the session; python-pkcs11 cannot ask this, so ask for a random byte."""
    try:
        session.generate_random(8)
    except pkcs11.RandomNoRNG:
        return True
    except PKCS11Error:
        return False
    return True


def _log_in(token: Token, uri: KeyUri, *, writes: bool) -> Session:
    identity = f"{uri.module} {token.serial!r} {token.label}"  # the label alone may be that of another token
    _check_not_locked(token, uri)
    with pin.attempt(identity, uri.pin_file) as secret:
        try:
            return token.open(rw=writes, user_pin=secret)
        except pkcs11.UserAlreadyLoggedIn:  # by another key of the token
            return token.open(rw=writes)
        except _WRONG_PIN as error:
            pin.refuse(identity, uri.pin_file)
            raise BucklerError(
                f"the token with {uri.token_name} refused the PIN in {uri.pin_file}; write the right one into the file:"
                " this one is not tried again, because repeated tries lock a token"
            ) from error
        except PKCS11Error as error:  # not tried again here: some modules have other names for a wrong PIN
            raise BucklerError(f"cannot log in to the token with {uri.token_name}: {describe(error)}") from error


def _check_not_locked(token: Token, uri: KeyUri) -> None:
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise BucklerError(f"the PIN of the token with {uri.token_name} is locked; its security officer sets a new one")
    if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise BucklerError(
            f"one more wrong PIN would lock the token with {uri.token_name}, so none is tried;"
            " log in once with the manufacturer's tool"
        )


def describe(error: Exception) -> str:
    """Return an error of the library in words: most have no text, but a name that says it."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
