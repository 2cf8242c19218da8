"""Who may ask for what, and how much: keys, roles and limits, in the words of the contract."""

import logging
from contextlib import AbstractContextManager, ExitStack

from starlette.datastructures import Headers

from buckler.errors import BucklerError, LimitError
from buckler.serving import api_keys
from buckler.serving.api_keys import ApiKey, KeyRing
from buckler.serving.limits import Limiter, Limits
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.endpoints import LIMITED, NEEDS
from services.classifier.settings import Settings

CHALLENGE = 'Bearer realm="buckler"'

logger = logging.getLogger("buckler.service")


class Access:
    """The keys and limits of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self._keys = KeyRing(settings.api_keys) if settings.keys_required else None
        self._limiter = Limiter(
            Limits(
                per_second=settings.key_requests_per_second,
                burst=settings.key_burst,
                at_once=settings.key_concurrency,
                in_progress=settings.max_in_progress,
            )
        )

    def key(self, path: str, headers: Headers) -> ApiKey | None:
        """Return the key that came with a request; None if none is needed.

        Raises:
            RefusalError: ``key_missing``, ``key_unknown`` or ``keys_unavailable``.
        """
        if self._keys is None or path not in NEEDS:
            return None
        secret = _bearer(headers)
        if not secret:
            raise RefusalError("key_missing", headers={"www-authenticate": CHALLENGE})
        try:
            key = self._keys.find(secret)
        except BucklerError as error:  # logged by the ring; the client can do nothing with the text
            raise RefusalError("keys_unavailable") from error
        if key is None:
            raise RefusalError("key_unknown", headers=_challenge("invalid_token"))
        return key

    def check_role(self, path: str, key: ApiKey | None) -> None:
        """Refuse a key that is for something else.

        Raises:
            RefusalError: ``role_forbidden``.
        """
        if key and key.role != NEEDS[path]:
            raise RefusalError(
                "role_forbidden",
                f"expected a key with the role {NEEDS[path]}, this one has the role {key.role}; ask with another",
                headers=_challenge("insufficient_scope"),
            )

    def reserve_request(self, path: str, key: ApiKey | None, held: ExitStack) -> None:
        """Take a place for a request that needs one; it is given back when ``held`` is closed.

        Without keys nobody can be told from anybody else, so that only the limit of all together holds: a rate
        of all as if they were one would let the first of them shut the others out.

        Raises:
            RefusalError: ``overloaded``, ``rate_limited`` or ``too_many_at_once``.
        """
        if path in LIMITED:
            _enter(held, self._limiter.place(key.id if key else None))
            held.enter_context(metrics.IN_PROGRESS.track_inprogress())

    def reserve_pictures(self, key: ApiKey | None, pictures: int, held: ExitStack) -> None:
        """Take the places of a request's other pictures, once it is read: each counts as one sent alone.

        Raises:
            RefusalError: ``overloaded`` or ``too_many_at_once``.
        """
        if pictures > 1:
            _enter(held, self._limiter.more(key.id if key else None, pictures - 1))


def _enter(held: ExitStack, place: AbstractContextManager[None]) -> None:
    try:
        held.enter_context(place)
    except LimitError as error:
        raise RefusalError(error.code, str(error), {"retry-after": str(error.retry_after)}) from error


def announce(settings: Settings) -> None:
    """Log whether keys are asked for and how many hold; both are hard to guess from outside."""
    bound = settings.bound_host or "an address that is not known here"
    if not settings.keys_required:
        logger.info("bound to %s; no keys are asked for (BUCKLER_REQUIRE_KEYS=%s)", bound, settings.require_keys)
        return
    try:
        holding = sum(not key.revoked_at for key in api_keys.read(settings.api_keys))
    except BucklerError as error:
        logger.error("bound to %s; keys are asked for and none holds: %s", bound, error)
        return
    level, hint = (logging.INFO, "") if holding else (logging.WARNING, "; `buckler keys create` makes one")
    logger.log(level, "bound to %s; keys are asked for, %d in %s hold%s", bound, holding, settings.api_keys, hint)


def _bearer(headers: Headers) -> str:
    given = headers.getlist("authorization")
    # Of two, a proxy and this service might believe different ones.
    scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _challenge(error: str) -> dict[str, str]:
    return {"www-authenticate": f'{CHALLENGE}, error="{error}"'}
