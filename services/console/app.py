"""The console's routes: who may see what, and what is asked of whom."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buckler.client import ServiceError, UnreachableError
from buckler.errors import AuditError, BucklerError, PromotionRefusedError
from buckler.serving.api_keys import Role
from buckler.trust import audit
from services.console import attacking, curves, events, messages, pages, registry
from services.console.attacking import Attacker
from services.console.figures import Figures
from services.console.service_client import Service
from services.console.sessions import COOKIE, TOKEN_HEADER, DeniedError, Session, Sessions
from services.console.settings import Settings

FORM_LIMIT_BYTES = 4096

logger = logging.getLogger("buckler.console")

Handler = Callable[[Request, Session], Awaitable[Response]]


class Headers:
    """Puts what a browser is to hold to on every answer; the files that ship may be kept by it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in pages.HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-cache"  # asked about each time, sent again only when changed
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Console:
    """One console: its settings and what it asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = Sessions(settings)
        self._service = Service(settings)
        self._attacker = Attacker(settings, self._service)
        self._registry = registry.Registry(settings)
        self._figures = Figures(settings)

    def app(self) -> Starlette:
        """Return the application."""
        predict, operate = Role.PREDICT, Role.OPERATE
        return Starlette(
            routes=[
                Route("/livez", lambda _: PlainTextResponse("alive\n")),
                Route("/", self._page(self._picture_page, predict)),
                Route("/engineer", self._page(self._engineer_page, operate)),
                Route("/sign-in", self._page(self._sign_in_page, None)),
                Route("/sign-in", self._post(self._sign_in, None), methods=["POST"]),
                Route("/sign-out", self._post(self._sign_out, None), methods=["POST"]),
                Route("/ask", self._post(self._ask, predict), methods=["POST"]),
                Route("/attack", self._post(self._attack, predict), methods=["POST"]),
                Route("/attack/prepare", self._post(self._prepare, predict), methods=["POST"]),
                Route("/engineer/models", self._part(self._models)),
                Route("/engineer/live", self._part(self._live)),
                Route("/engineer/jobs", self._part(self._jobs)),
                Route("/engineer/alerts", self._part(self._alerts)),
                Route("/engineer/promote", self._post(self._promote, operate), methods=["POST"]),
                Route("/engineer/rollback", self._post(self._rollback, operate), methods=["POST"]),
                Mount("/static", StaticFiles(directory=pages.STATIC)),
            ],
            middleware=[Middleware(Headers)],
            exception_handlers={404: _nothing_here, 500: _broke},
        )

    # --- who may

    def _check(self, request: Request, session: Session, role: Role | None) -> None:
        """Raise DeniedError unless the request is for this host and from somebody with ``role``."""
        self._sessions.check_host(request)
        if role:
            self._sessions.require(session, role)

    def _page(self, handler: Handler, role: Role | None) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a page: without the key it takes, it leads to where one is shown."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, role)
            except DeniedError as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    return RedirectResponse(f"/sign-in?next={request.url.path}", HTTPStatus.SEE_OTHER)
                return pages.problem(messages.refusal(error), error.status)
            response = await handler(request, session)
            if not session.keys:  # with keys the time runs from when they were shown
                self._sessions.keep(response, session, request)
            return response

        return answer

    def _part(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a part of the engineer's page, which is asked for again and again."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, Role.OPERATE)
                return await handler(request, session)
            except DeniedError as error:
                return pages.problem(messages.refusal(error), error.status)
            except BucklerError as error:
                return pages.render("notice", text=str(error))  # the page is fine, what it shows is away

        return answer

    def _post(self, handler: Handler, role: Role | None) -> Callable[[Request], Awaitable[Response]]:
        """Wrap what does something: with the role it takes, and from our own pages only."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, role)
                self._sessions.check_token(session, await _token(request))
                return await handler(request, session)
            except DeniedError as error:
                return pages.problem(messages.refusal(error), error.status)
            except BucklerError as error:
                return pages.problem(messages.refusal(error), _status(error))

        return answer

    def _shared(self, session: Session, page: str) -> dict[str, Any]:
        """Return what every page shows."""
        keys = self._sessions.keys(session) if self._settings.keys_required else ()
        return {
            "page": page,
            "token": self._sessions.token(session),
            "keys": keys,
            "keys_required": self._settings.keys_required,
        }

    # --- sign in

    async def _sign_in_page(self, request: Request, session: Session) -> Response:
        return pages.render(
            "sign_in", **self._shared(session, "sign-in"), next=_next(request.query_params.get("next")), problem=None
        )

    async def _sign_in(self, request: Request, session: Session) -> Response:
        form = await _form(request)
        try:
            signed_in = await run_in_threadpool(self._sessions.sign_in, session, form.get("key", "").strip())
        except DeniedError as error:
            logger.warning("a key was refused: %s", error)
            shared = self._shared(session, "sign-in")
            problem = messages.refusal(error)
            return pages.render("sign_in", status=error.status, **shared, next=_next(form.get("next")), problem=problem)
        logger.info("signed in with key %s", signed_in.keys[-1])
        response = RedirectResponse(_next(form.get("next")), HTTPStatus.SEE_OTHER)
        self._sessions.keep(response, signed_in, request)
        return response

    async def _sign_out(self, request: Request, _: Session) -> Response:
        response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE)
        return response

    # --- one picture

    async def _picture_page(self, request: Request, session: Session) -> Response:
        return pages.render("picture", **self._shared(session, "picture"), radii=attacking.RADII)

    async def _ask(self, request: Request, _: Session) -> Response:
        picture = await _body(request, self._settings.body_limit_bytes)
        look = await run_in_threadpool(self._service.look, picture)
        return pages.render("answer", look=look, answer=look.answer)

    async def _attack(self, request: Request, _: Session) -> Response:
        picture = await _body(request, self._settings.body_limit_bytes)
        radius = _radius(request.query_params.get("epsilon_255", ""))
        attacked = await run_in_threadpool(self._attacker.attack, picture, radius)
        return pages.render("attack", attacked=attacked, amplified=attacking.AMPLIFIED)

    async def _prepare(self, request: Request, _: Session) -> Response:
        self._attacker.prepare()
        return Response(status_code=HTTPStatus.ACCEPTED)

    # --- the engineer's page

    async def _engineer_page(self, request: Request, session: Session) -> Response:
        name = self._settings.model_name
        return pages.render("engineer", **self._shared(session, "engineer"), model_name=name)

    async def _models(self, request: Request, session: Session) -> Response:
        def read() -> registry.Overview:
            with registry.explained():
                return self._registry.overview()

        overview, serving = await asyncio.gather(run_in_threadpool(read), run_in_threadpool(self._service.serving))
        named = [(f"{side.alias} (version {side.version.version})", side.rates) for side in overview.sides]
        chart = curves.robustness(named[:1] if overview.same else named)
        return pages.render(
            "models", overview=overview, chart=chart, serving=serving, model_name=self._settings.model_name
        )

    async def _live(self, request: Request, session: Session) -> Response:
        return pages.render("live", live=await run_in_threadpool(self._figures.live))

    async def _jobs(self, request: Request, session: Session) -> Response:
        jobs, runs = await run_in_threadpool(events.jobs)
        return pages.render("jobs", jobs=jobs, runs=runs)

    async def _alerts(self, request: Request, session: Session) -> Response:
        return pages.render("alerts", found=await run_in_threadpool(events.alerts, self._settings))

    async def _promote(self, request: Request, session: Session) -> Response:
        number = (await _form(request)).get("version", "")
        if not number.isascii() or not number.isdecimal():
            raise BucklerError("expected the number of a version; load the page again")
        return await self._move(session, "promotion", lambda: self._registry.promote(number))

    async def _rollback(self, request: Request, session: Session) -> Response:
        return await self._move(session, "roll_back", self._registry.rollback)

    async def _move(self, session: Session, what: str, move: Callable[[], Any]) -> Response:
        client = self._sessions.require(session, Role.OPERATE)

        def moved() -> Any:
            with registry.explained():
                return move()

        try:
            done = await run_in_threadpool(moved)
        except BucklerError as error:
            logger.warning("%s by %s refused: %s", what, client, error)
            failures = error.failures if isinstance(error, PromotionRefusedError) else ()
            title = str(error).partition("\n")[0]
            return pages.render("refused", status=HTTPStatus.CONFLICT, title=title, failures=failures)
        logger.info("%s by %s: version %s, before: %s", what, client, done.version, done.previous)
        unrecorded = await run_in_threadpool(_record, self._settings.audit_log, what, client, done)
        return pages.render("moved", move=done, what=what, unrecorded=unrecorded)


def create(settings: Settings | None = None) -> Starlette:
    """Return the console's application."""
    return Console(settings or Settings.from_env()).app()


def _record(log: Path | Literal["off"], what: str, client: str, move: Any) -> str | None:
    """Append a move of the alias to the audit log; return why that failed, None if it worked or the log is off."""
    if log == audit.OFF:
        return None
    moment = datetime.now(UTC)
    details = {"model": move.model_name, "version": move.version, "previous": move.previous}
    line = {"time": moment.isoformat(), "client": client, "event": what, **details}
    try:
        audit.AuditLog(Path(log)).append(line)
    except AuditError as error:
        logger.error("%s is not in the audit log: %s", what, error)
        return str(error)
    return None


def _status(error: BucklerError) -> int:
    if isinstance(error, ServiceError) and error.status:
        # Ours is fine where the service's is not: 502 says who is to blame.
        return error.status if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_GATEWAY
    if isinstance(error, TooLargeError):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return HTTPStatus.BAD_GATEWAY if isinstance(error, UnreachableError) else HTTPStatus.UNPROCESSABLE_ENTITY


class TooLargeError(BucklerError):
    """A picture or a form has more bytes than are taken."""


async def _body(request: Request, limit: int) -> bytes:
    """Return a request's body, held in memory: not as a form, whose files go to the disk.

    Raises:
        TooLargeError: There is more than ``limit``.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise TooLargeError(f"expected at most {limit / 1e6:.0f} MB, got more; choose a smaller picture")
    return bytes(content)


async def _form(request: Request) -> dict[str, str]:
    if not hasattr(request.state, "form"):  # a body can be read once
        body = await _body(request, FORM_LIMIT_BYTES)
        request.state.form = {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
    form: dict[str, str] = request.state.form
    return form


async def _token(request: Request) -> str:
    """Return the token that a page sends in a header, or a form in its body; empty where there is none."""
    if TOKEN_HEADER in request.headers:
        return request.headers[TOKEN_HEADER]
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return (await _form(request)).get("token", "")
    return ""


def _next(path: str | None) -> str:
    """Return where to go after signing in: our own pages only."""
    return path if path in ("/", "/engineer") else "/"


def _radius(text: str) -> float:
    known = {f"{radius:g}": radius for radius in attacking.RADII}
    if text not in known:
        raise BucklerError(f"expected a radius of {', '.join(known)} in 255, got another; load the page again")
    return known[text]


async def _nothing_here(request: Request, error: Exception) -> Response:
    return pages.problem(messages.Problem("Nothing is here", "Go to the start page."), HTTPStatus.NOT_FOUND)


async def _broke(request: Request, error: Exception) -> Response:
    found = messages.Problem("The console broke", "Try again; its log says what happened.")
    return pages.problem(found, HTTPStatus.INTERNAL_SERVER_ERROR)
