"""Which pages of other origins may read answers (CORS): those that the operator lists, and by default none.

Credentials of a browser are never allowed: the service has no cookies, and a page that holds a key sends it itself.

Source: https://fetch.spec.whatwg.org, "HTTP CORS protocol".
"""

from collections.abc import Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders

ALLOWED_HEADERS = (
    "Accept",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Inference-Header-Content-Length",
    "X-Buckler-Receipt",
)
EXPOSED_HEADERS = ("Allow", "Inference-Header-Content-Length", "Retry-After", "X-Request-ID")
PREFLIGHT_SECONDS = 600


class CrossOrigin:
    """The origins whose pages may read answers.

    Args:
        origins: Each as browsers send it: scheme, host and, unless it is the default, port.
        exposed: Names of further response headers that these pages may read.
    """

    def __init__(self, origins: Collection[str], exposed: Iterable[str] = ()) -> None:
        self._origins = frozenset(origins)
        self._exposed = ", ".join(dict.fromkeys((*EXPOSED_HEADERS, *exposed)))

    def add_to(self, answer: MutableHeaders, request: Headers) -> None:
        """Add what lets the page that sent the request read its answer, if it is on the list."""
        if not self._origins:
            return
        answer.add_vary_header("Origin")  # also without one: a cache must not give this answer to a page
        if origin := self._allowed(request):
            answer["access-control-allow-origin"] = origin
            answer["access-control-expose-headers"] = self._exposed

    def preflight(self, request: Headers, methods: str) -> dict[str, str]:
        """Return the headers that answer a browser's question before a request; none if it is no such question."""
        if not self._allowed(request) or "access-control-request-method" not in request:
            return {}
        return {
            "access-control-allow-methods": methods,
            "access-control-allow-headers": ", ".join(ALLOWED_HEADERS),
            "access-control-max-age": str(PREFLIGHT_SECONDS),
        }

    def _allowed(self, request: Headers) -> str | None:
        given = request.getlist("origin")
        return given[0] if len(given) == 1 and given[0] in self._origins else None
