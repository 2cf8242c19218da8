"""Sessions: a person signs in with an API key and gets a short-lived signed cookie; every action needs a token.

A session ends when its person signs out or adds a key, when its key is revoked, and after a fixed time.

If no keys are required, everyone may do everything, as with the service. Token and host name are still checked, because
a foreign page in the same browser can also send requests to this machine's loopback address.
"""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from buckler.errors import BucklerError
from buckler.serving import api_keys
from buckler.serving.api_keys import ApiKey, KeyRing, Role
from services.console.settings import Settings

COOKIE = "buckler_console"
TOKEN_HEADER = "x-buckler-token"  # noqa: S105 - a header name


class DeniedError(BucklerError):
    """A request is refused with ``status``."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one browser.

    Attributes:
        id: Random; every token is bound to it.
        keys: Ids of the keys that it signed in with.
    """

    id: str
    keys: tuple[str, ...] = ()


class Sessions:
    """Reads and writes the cookies and knows who is signed in; a restart ends all sessions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring = KeyRing(settings.api_keys)
        secret = secrets.token_bytes(32)
        self._cookies = URLSafeTimedSerializer(secret, salt="session")
        self._tokens = URLSafeTimedSerializer(secret, salt="token")
        self._signed_in: dict[
            str, float
        ] = {}  # id of a session with keys -> its end, in seconds of the monotonic clock

    def of(self, request: Request) -> Session:
        """Return the session of a request's cookie; a new session if the cookie is missing, invalid, old or ended."""
        try:
            content = self._cookies.loads(request.cookies.get(COOKIE, ""), max_age=self._age)
        except BadData:
            return _new()
        session = Session(content["id"], tuple(content["keys"]))
        # The cookie is a copy that its owner cannot destroy, so that it alone does not count.
        return session if not session.keys or session.id in self._signed_in else _new()

    def token(self, session: Session) -> str:
        """Return the token that every action of this session must send."""
        return self._tokens.dumps(session.id)

    def check_token(self, session: Session, token: str) -> None:
        """Check that ``token`` was issued to ``session`` and is not too old.

        Raises:
            DeniedError: The token is not valid.
        """
        try:
            valid = secrets.compare_digest(str(self._tokens.loads(token, max_age=self._age)), session.id)
        except BadData:
            valid = False
        if not valid:
            raise DeniedError(
                HTTPStatus.FORBIDDEN, "the page is too old or not part of the console; reload the page and try again"
            )

    def keep(self, response: Response, session: Session, request: Request) -> None:
        """Write the session's cookie."""
        value = self._cookies.dumps({"id": session.id, "keys": session.keys})
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, value, max_age=self._age, httponly=True, samesite="strict", secure=secure)

    def sign_in(self, session: Session, secret: str) -> Session:
        """Return a new session with the key of ``secret`` and the keys of the old session, which ends.

        Raises:
            DeniedError: The key is unknown or revoked, or the keys cannot be read.
        """
        try:
            key = self._ring.find(secret)
        except BucklerError as error:
            raise DeniedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        if key is None:
            raise DeniedError(
                HTTPStatus.UNAUTHORIZED,
                "this key is unknown or was revoked; `buckler keys list` shows the valid keys",
            )
        signed_in = _new((*session.keys, key.id))
        self.end(session)
        self._forget_old(now := time.monotonic())
        self._signed_in[signed_in.id] = now + self._age
        return signed_in

    def end(self, session: Session) -> None:
        """End a session: copies of its cookie and its tokens are no longer valid."""
        self._signed_in.pop(session.id, None)

    def keys(self, session: Session) -> tuple[ApiKey, ...]:
        """Return the session's keys that are not revoked.

        Raises:
            DeniedError: The keys cannot be read.
        """
        if not session.keys:
            return ()
        try:
            known = api_keys.read(self._settings.api_keys)
        except BucklerError as error:
            raise DeniedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        return tuple(key for key in known if key.id in session.keys and not key.revoked_at)

    def require(self, session: Session, role: Role) -> str:
        """Return the id of the session's key with ``role``, for the log; ``loopback`` if no keys are required.

        Raises:
            DeniedError: No key of the session has the role.
        """
        if not self._settings.keys_required:
            return "loopback"
        found = next((key.id for key in self.keys(session) if key.role == role), None)
        if found is None:
            raise DeniedError(HTTPStatus.UNAUTHORIZED, f"this needs a key with the role {role}; sign in with one")
        return found

    def check_host(self, request: Request) -> None:
        """Without sign-in, accept only requests to the console's own names.

        This prevents DNS rebinding: a foreign page whose name resolves to this machine could read the console.

        Raises:
            DeniedError: The request names another host.
        """
        header = request.headers.get("host", "")
        if not self._settings.accepts_host_on(self._settings.console_host, header):
            raise DeniedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"expected an address of the console, such as http://127.0.0.1, got the host {header!r}; "
                "BUCKLER_HOST_NAMES adds names",
            )

    def _forget_old(self, now: float) -> None:
        # In place: a session that ends meanwhile, in another thread, must not return.
        for name in [name for name, end in list(self._signed_in.items()) if end <= now]:
            self._signed_in.pop(name, None)

    @property
    def _age(self) -> int:
        return self._settings.console_session_seconds


def _new(keys: Iterable[str] = ()) -> Session:
    return Session(secrets.token_urlsafe(16), tuple(dict.fromkeys(keys)))
