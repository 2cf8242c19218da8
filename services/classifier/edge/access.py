"""Keys, roles and limits of a request, with the errors of the contract."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from starlette.datastructures import Headers

from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError, LimitError
from buckler.serving import api_keys
from buckler.serving.api_keys import ApiKey, KeyRing
from buckler.serving.limits import ByteBudget, Limiter, RateLimits
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.routing import Endpoint
from services.classifier.settings import Settings

CHALLENGE = 'Bearer realm="buckler"'

logger = logging.getLogger("buckler.service")


class Access:
    """The keys and limits of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = KeyRing(settings.api_keys) if settings.keys_required else None
        self._limiter = Limiter(
            RateLimits(
                per_second=settings.key_requests_per_second,
                burst=settings.key_burst,
                at_once=settings.key_concurrency,
                in_progress=settings.max_in_progress,
            )
        )
        self._bodies = ByteBudget(settings.bodies_limit_bytes)

    def check_host(self, headers: Headers) -> None:
        """Check the header ``Host``, if no keys are required.

        Raises:
            RefusalError: ``host_unknown``.
        """
        if not self._settings.accepts_host_on(self._settings.bound_host, headers.get("host", "")):
            raise RefusalError(ErrorCode.HOST_UNKNOWN)

    def key(self, endpoint: Endpoint, headers: Headers) -> ApiKey | None:
        """Return the key of a request; None if the endpoint is open or keys are not required.

        Raises:
            RefusalError: ``key_missing``, ``key_unknown`` or ``keys_unavailable``.
        """
        if self._keys is None or endpoint.role is None:
            return None
        secret = _bearer(headers)
        if not secret:
            raise RefusalError(ErrorCode.KEY_MISSING, headers={"www-authenticate": CHALLENGE})
        try:
            key = self._keys.find(secret)
        except BucklerError as error:  # logged by the key ring; of no use to the client
            raise RefusalError(ErrorCode.KEYS_UNAVAILABLE) from error
        if key is None:
            raise RefusalError(ErrorCode.KEY_UNKNOWN, headers=_challenge("invalid_token"))
        return key

    def check_role(self, endpoint: Endpoint, key: ApiKey | None) -> None:
        """Check that the key has the role that the endpoint needs.

        Raises:
            RefusalError: ``role_forbidden``.
        """
        if key and key.role != endpoint.role:
            raise RefusalError(
                ErrorCode.ROLE_FORBIDDEN,
                f"expected a key with the role {endpoint.role}, this one has {key.role}; use another",
                headers=_challenge("insufficient_scope"),
            )

    def reserve_request(self, endpoint: Endpoint, key: ApiKey | None, places: ExitStack) -> None:
        """Count a request against the limits until ``places`` is closed.

        Without keys, clients cannot be told apart and only the limit of all requests applies: with a common rate, one
        client could lock out all others.

        Raises:
            RefusalError: ``overloaded``, ``rate_limited`` or ``too_many_at_once``.
        """
        if endpoint.limited:
            _enter(places, self._limiter.place(key.id if key else None))
        if endpoint.pictures:
            places.enter_context(metrics.IN_PROGRESS.track_inprogress())

    def reserve_pictures(self, key: ApiKey | None, places: ExitStack, pictures: int) -> None:
        """Count the further pictures of a request against the limits, each like a request with one picture.

        Raises:
            RefusalError: ``overloaded`` or ``too_many_at_once``.
        """
        if pictures > 1:
            _enter(places, self._limiter.more(key.id if key else None, pictures - 1))

    def hold_body(self, places: ExitStack) -> Callable[[int], None]:
        """Return a function that counts bytes of a body against the memory for all bodies, until ``places`` is closed.

        It raises `RefusalError` (``overloaded``).
        """
        hold = places.enter_context(self._bodies.share())

        def count(received: int) -> None:
            try:
                hold(received)
            except LimitError as error:
                raise _refusal(error) from error

        return count


def _enter(places: ExitStack, place: AbstractContextManager[None]) -> None:
    try:
        places.enter_context(place)
    except LimitError as error:
        raise _refusal(error) from error


def _refusal(error: LimitError) -> RefusalError:
    return RefusalError(ErrorCode(error.code), str(error), {"retry-after": str(error.retry_after)})


def announce(settings: Settings) -> None:
    """Log the address, whether keys are required, and how many are valid."""
    bound = settings.bound_host or "an unknown address"
    if not settings.keys_required:
        logger.info("bound to %s; no keys are required (BUCKLER_REQUIRE_KEYS=%s)", bound, settings.require_keys)
        return
    try:
        valid = sum(not key.revoked_at for key in api_keys.read(settings.api_keys))
    except BucklerError as error:
        logger.error("bound to %s; keys are required and none is valid: %s", bound, error)
        return
    level, hint = (logging.INFO, "") if valid else (logging.WARNING, "; `buckler keys create` creates one")
    logger.log(level, "bound to %s; keys are required, %d valid in %s%s", bound, valid, settings.api_keys, hint)


def _bearer(headers: Headers) -> str:
    given = headers.getlist("authorization")
    # With two headers, a proxy and this service might read different ones.
    scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _challenge(error: str) -> dict[str, str]:
    return {"www-authenticate": f'{CHALLENGE}, error="{error}"'}
