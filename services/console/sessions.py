"""Who is at the page: API keys shown once, a short-lived signed cookie after that, and a token in every form.

Where no keys are required everybody may do everything, as at the service. The token stays all the same, and the
host's name is checked: a page of somebody else's that is open in the same browser reaches this machine's loopback too.
"""

import ipaddress
import secrets
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
TOKEN_HEADER = "x-buckler-token"  # noqa: S105 - a name
LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


class DeniedError(BucklerError):
    """A request may not be answered; ``status`` says how it is refused."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Session:
    """One browser.

    Attributes:
        id: Random; every token is bound to it.
        keys: Ids of the keys that were shown.
    """

    id: str
    keys: tuple[str, ...] = ()


class Sessions:
    """Reads and writes cookies. What signs them is made at the start: nobody stays signed in over a restart."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ring = KeyRing(settings.api_keys)
        secret = secrets.token_bytes(32)
        self._cookies = URLSafeTimedSerializer(secret, salt="session")
        self._tokens = URLSafeTimedSerializer(secret, salt="token")

    def of(self, request: Request) -> Session:
        """Return the session that a request belongs to, a new one if it brings none that holds."""
        try:
            content = self._cookies.loads(request.cookies.get(COOKIE, ""), max_age=self._age)
            return Session(content["id"], tuple(content["keys"]))
        except BadData:
            return Session(secrets.token_urlsafe(16))

    def token(self, session: Session) -> str:
        """Return what a form of this session has to bring along."""
        return self._tokens.dumps(session.id)

    def check_token(self, session: Session, token: str) -> None:
        """Refuse what was not sent by one of our own pages, or by one that is too old.

        Raises:
            DeniedError: It does not hold.
        """
        try:
            holds = secrets.compare_digest(str(self._tokens.loads(token, max_age=self._age)), session.id)
        except BadData:
            holds = False
        if not holds:
            raise DeniedError(
                HTTPStatus.FORBIDDEN, "this page is too old, or not ours; load it again and try once more"
            )

    def keep(self, response: Response, session: Session, request: Request) -> None:
        """Write the session's cookie."""
        value = self._cookies.dumps({"id": session.id, "keys": session.keys})
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, value, max_age=self._age, httponly=True, samesite="strict", secure=secure)

    def sign_in(self, session: Session, secret: str) -> Session:
        """Return a new session with the key that was shown beside those of the old one.

        Raises:
            DeniedError: No such key holds, or the keys cannot be read.
        """
        try:
            key = self._ring.find(secret)
        except BucklerError as error:
            raise DeniedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        if key is None:
            raise DeniedError(
                HTTPStatus.UNAUTHORIZED,
                "this key is unknown or was revoked; `buckler keys list` shows which hold",
            )
        return Session(secrets.token_urlsafe(16), tuple(dict.fromkeys((*session.keys, key.id))))

    def keys(self, session: Session) -> tuple[ApiKey, ...]:
        """Return the session's keys that still hold: a revoked one ends what was signed in with it.

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
        """Return the id of the key with ``role``, for the log; ``loopback`` where none is needed.

        Raises:
            DeniedError: No key of the session has it.
        """
        if not self._settings.keys_required:
            return "loopback"
        found = next((key.id for key in self.keys(session) if key.role == role), None)
        if found is None:
            raise DeniedError(HTTPStatus.UNAUTHORIZED, f"this takes a key with the role {role}; sign in with one")
        return found

    def check_host(self, request: Request) -> None:
        """Where nobody signs in, answer only to this machine's own names.

        Else a page from elsewhere could have its name point here, and read what is ours as if it were its own.

        Raises:
            DeniedError: The request names another host.
        """
        name = request.url.hostname or ""
        if self._settings.require_keys == "auto" and not self._settings.keys_required and not _is_local(name):
            raise DeniedError(HTTPStatus.MISDIRECTED_REQUEST, f"expected the address http://127.0.0.1, got {name!r}")

    @property
    def _age(self) -> int:
        return self._settings.console_session_seconds


def _is_local(name: str) -> bool:
    try:
        return name in LOCAL_NAMES or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
