"""The console's routes, the roles that they need, and their handlers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from buckler.client import Opinion, ServiceError, UnreachableError
from buckler.errors import AuditError, BucklerError, PromotionRefusedError
from buckler.serving.api_keys import Role
from buckler.trust import audit
from services.console import (
    attack_preview,
    attackers,
    bodies,
    jobs_and_alerts,
    messages,
    model_facts,
    pages,
    registry,
    robustness_chart,
    samples,
)
from services.console.attack_preview import AttackPreview
from services.console.latest import Latest, SlowError
from services.console.live_metrics import MetricsReader
from services.console.model_facts import ModelFacts
from services.console.service_client import ServiceClient
from services.console.sessions import COOKIE, DeniedError, Session, Sessions
from services.console.settings import Settings

logger = logging.getLogger("buckler.console")

CARD_SECONDS = 2.5  # that a page waits for the card of the live model

T = TypeVar("T")
Handler = Callable[[Request, Session], Awaitable[Response]]


class ResponseHeaders:
    """Adds security and cache headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and add the headers to its response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in pages.HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-cache"  # kept by the browser, but checked for changes
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Console:
    """The handlers of all routes, with the settings and clients that they share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = Sessions(settings)
        self._service = ServiceClient(settings)
        self._attacks = AttackPreview(settings, self._service)
        self._registry = registry.ConsoleRegistry(settings)
        self._card = Latest("the service", self._service.live_card)
        self._live_version = Latest("the service", self._service.live_version)
        self._overview = Latest("the registry", self._registry.overview)
        self._figures = Latest("Prometheus, service or watch", MetricsReader(settings).read)
        self._runs = Latest("the history of the watch", partial(jobs_and_alerts.jobs, settings))
        self._active_alerts = Latest("Prometheus or Alertmanager", partial(jobs_and_alerts.alerts, settings))

    def app(self) -> Starlette:
        """Return the application."""
        predict, operate = Role.PREDICT, Role.OPERATE
        return Starlette(
            routes=[
                Route("/livez", lambda _: PlainTextResponse("alive\n")),
                Route("/runbooks/{alert}", self._page(self._runbook, operate)),
                Route("/", self._page(self._picture_page, predict)),
                Route("/engineer", self._page(self._engineer_page, operate)),
                Route("/sign-in", self._page(self._sign_in_page, None)),
                Route("/sign-in", self._post(self._sign_in, None), methods=["POST"]),
                Route("/sign-out", self._post(self._sign_out, None), methods=["POST"]),
                Route("/samples/{number:int}.png", self._page(self._sample, predict)),
                Route("/ask", self._post(self._ask, predict), methods=["POST"]),
                Route("/feedback", self._post(self._feedback, predict), methods=["POST"]),
                Route("/attack", self._post(self._attack, predict), methods=["POST"]),
                Route("/attack/progress", self._part(self._attack_progress, predict)),
                Route("/attack/prepare", self._post(self._prepare, predict), methods=["POST"]),
                Route("/engineer/models", self._part(self._models)),
                Route("/engineer/live", self._part(self._live)),
                Route("/engineer/jobs", self._part(self._jobs)),
                Route("/engineer/alerts", self._part(self._alerts)),
                Route("/engineer/promote", self._post(self._promote, operate), methods=["POST"]),
                Route("/engineer/rollback", self._post(self._rollback, operate), methods=["POST"]),
                Mount("/static", StaticFiles(directory=pages.STATIC)),
            ],
            middleware=[*self._forwarded(), Middleware(ResponseHeaders)],
            exception_handlers={404: _not_found, 500: _internal_error},
        )

    def _forwarded(self) -> list[Middleware]:
        """Return what reads ``X-Forwarded-Proto``: from anybody else than a trusted proxy, it is any sender's claim."""
        trusted = [each.strip() for each in (self._settings.console_trusted_proxies or "").split(",")]
        return [Middleware(ProxyHeadersMiddleware, trusted_hosts=trusted)] if any(trusted) else []

    # --- access

    def _check(self, request: Request, session: Session, role: Role | None) -> None:
        """Raise `DeniedError` unless the request names this host and its session has ``role``."""
        self._sessions.check_host(request)
        if role:
            self._sessions.require(session, role)

    def _page(self, handler: Handler, role: Role | None) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a page: a session without ``role`` is redirected to the sign-in page."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, role)
            except DeniedError as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    return RedirectResponse(f"/sign-in?next={request.url.path}", HTTPStatus.SEE_OTHER)
                return pages.problem(messages.refusal(error), error.status)
            response = await handler(request, session)
            if not session.keys:  # a session with keys ends a fixed time after signing in
                self._sessions.keep(response, session, request)
            return response

        return answer

    def _part(self, handler: Handler, role: Role = Role.OPERATE) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a part of a page, which the page requests again at intervals."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, role)
                return await handler(request, session)
            except DeniedError as error:
                return pages.problem(messages.refusal(error), error.status)
            except BucklerError as error:
                # One panel fails, the page does not.
                return pages.render("notice", text=str(error), slow=isinstance(error, SlowError))

        return answer

    def _post(self, handler: Handler, role: Role | None) -> Callable[[Request], Awaitable[Response]]:
        """Wrap an action: it needs ``role`` and a token, which only the console's own pages have."""

        async def answer(request: Request) -> Response:
            session = self._sessions.of(request)
            try:
                self._check(request, session, role)
                self._sessions.check_token(session, await bodies.token(request))
                return await handler(request, session)
            except DeniedError as error:
                return pages.problem(messages.refusal(error), error.status)
            except BucklerError as error:
                return pages.problem(messages.refusal(error), _status(error))

        return answer

    async def _shared(self, session: Session, page: str) -> dict[str, Any]:
        """Return the template values that every page needs; ``model`` is None if the service does not answer."""
        keys = self._sessions.keys(session) if self._settings.keys_required else ()
        return {
            "page": page,
            "token": self._sessions.token(session),
            "keys": keys,
            "keys_required": self._settings.keys_required,
            "model": await self._live_model(),
        }

    async def _live_model(self) -> ModelFacts | None:
        with suppress(SlowError):  # nothing old: a page must not describe another model than the one that answers
            return model_facts.of(await self._card.now(CARD_SECONDS))
        return None

    # --- sign-in

    async def _sign_in_page(self, request: Request, session: Session) -> Response:
        return pages.render(
            "sign_in",
            **await self._shared(session, "sign-in"),
            next=_next(request.query_params.get("next")),
            problem=None,
        )

    async def _sign_in(self, request: Request, session: Session) -> Response:
        form = await bodies.form(request)
        try:
            signed_in = await run_in_threadpool(self._sessions.sign_in, session, form.get("key", "").strip())
        except DeniedError as error:
            logger.warning("sign-in refused: %s", error)
            shared = await self._shared(session, "sign-in")
            problem = messages.refusal(error)
            return pages.render("sign_in", status=error.status, **shared, next=_next(form.get("next")), problem=problem)
        logger.info("signed in with key %s", signed_in.keys[-1])
        response = RedirectResponse(_next(form.get("next")), HTTPStatus.SEE_OTHER)
        self._sessions.keep(response, signed_in, request)
        return response

    async def _sign_out(self, request: Request, session: Session) -> Response:
        self._sessions.end(session)
        response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE)
        return response

    # --- the picture page

    async def _picture_page(self, request: Request, session: Session) -> Response:
        return pages.render(
            "picture",
            **await self._shared(session, "picture"),
            attackers=attackers.ATTACKERS,
            radii=attackers.RADII,
            limit=self._settings.body_limit_bytes,
            samples=samples.SAMPLES,
        )

    async def _sample(self, request: Request, _: Session) -> Response:
        number = request.path_params["number"]
        model = await self._live_model()
        if model is None or not model.synthetic or number >= len(samples.SAMPLES):
            return await _not_found(request)
        png = await run_in_threadpool(samples.draw, samples.SAMPLES[number], model.image_size)
        return Response(png, media_type="image/png")

    async def _ask(self, request: Request, _: Session) -> Response:
        picture = await bodies.content(request, self._settings.body_limit_bytes)
        found = await run_in_threadpool(self._service.classify, picture)
        return pages.answer(found)

    async def _feedback(self, request: Request, _: Session) -> Response:
        form = await bodies.form(request)
        opinion: Opinion = _choice("opinion", form.get("opinion", ""), {each: each for each in get_args(Opinion)})
        label = form.get("label") or None
        line = await run_in_threadpool(self._service.feedback, form.get("request_id", ""), opinion, label)
        return pages.render("feedback", opinion=opinion, label=label, line=line)

    async def _attack(self, request: Request, session: Session) -> Response:
        picture = await bodies.content(request, self._settings.body_limit_bytes)
        attacker = _choice("attack", request.query_params.get("attack", ""), {a.name: a for a in attackers.ATTACKERS})
        radius = _choice("radius", request.query_params.get("radius", ""), {r: r for r in attackers.RADII})
        attack = partial(self._attacks.attack, picture, attacker, radius, session=session.id)
        found = await run_in_threadpool(attack)
        return pages.render("attack", attack=found, amplification=attack_preview.AMPLIFICATION)

    async def _attack_progress(self, request: Request, session: Session) -> Response:
        return pages.render("attack_progress", progress=self._attacks.progress(session.id))

    async def _prepare(self, request: Request, _: Session) -> Response:
        self._attacks.prepare()
        return Response(status_code=HTTPStatus.ACCEPTED)

    # --- the engineer's page

    async def _engineer_page(self, request: Request, session: Session) -> Response:
        name = self._settings.model_name
        return pages.render("engineer", **await self._shared(session, "engineer"), model_name=name)

    async def _models(self, request: Request, session: Session) -> Response:
        reading, live = await asyncio.gather(self._overview.newest(), self._answering_version())
        overview = reading.value
        versions = [(f"{each.alias} (version {each.version.version})", each.rates) for each in overview.versions]
        chart = robustness_chart.draw(versions[:1] if overview.same else versions)
        return pages.render(
            "models",
            overview=overview,
            age=reading.age,
            chart=chart,
            live_version=live,
            model_name=self._settings.model_name,
        )

    async def _answering_version(self) -> str | None:
        with suppress(SlowError):
            return await self._live_version.now()
        return None

    async def _live(self, request: Request, session: Session) -> Response:
        return pages.render("live", live=await self._figures.now())

    async def _jobs(self, request: Request, session: Session) -> Response:
        jobs, runs = await self._runs.now()
        return pages.render("jobs", jobs=jobs, runs=runs)

    async def _alerts(self, request: Request, session: Session) -> Response:
        return pages.render("alerts", found=await self._active_alerts.now())

    async def _runbook(self, request: Request, session: Session) -> Response:
        return pages.runbook(request.path_params["alert"]) or await _not_found(request)

    async def _promote(self, request: Request, session: Session) -> Response:
        number = (await bodies.form(request)).get("version", "")
        if not number.isascii() or not number.isdecimal():
            raise BucklerError("expected the number of a version; reload the page")
        return await self._move(session, "promotion", lambda: self._registry.promote(number))

    async def _rollback(self, request: Request, session: Session) -> Response:
        return await self._move(session, "roll_back", self._registry.rollback)

    async def _move(self, session: Session, action: str, move: Callable[[], Any]) -> Response:
        """Move the alias ``champion``, log the move and record it in the audit log."""
        client = self._sessions.require(session, Role.OPERATE)

        def moved() -> Any:
            with registry.registry_errors():
                return move()

        try:
            done = await run_in_threadpool(moved)
        except BucklerError as error:
            logger.warning("%s by %s refused: %s", action, client, error)
            failures = error.failures if isinstance(error, PromotionRefusedError) else ()
            title = str(error).partition("\n")[0]
            return pages.render("refused", status=HTTPStatus.CONFLICT, title=title, failures=failures)
        finally:
            self._overview.forget()  # also after an error: a registry that is slow may have moved the alias
        logger.info("%s by %s: version %s, before: %s", action, client, done.version, done.previous)
        unrecorded = await run_in_threadpool(_record, self._settings.audit_log, action, client, done)
        return pages.render("moved", move=done, action=action, unrecorded=unrecorded)


def create(settings: Settings | None = None) -> Starlette:
    """Return the console's application."""
    return Console(settings or Settings.from_env()).app()


def _record(log: Path | Literal["off"], action: str, client: str, move: Any) -> str | None:
    """Append a move of the alias to the audit log; return the error, None without one or if the log is off."""
    if log == audit.OFF:
        return None
    moment = datetime.now(UTC)
    details = {"model": move.model_name, "version": move.version, "previous": move.previous}
    line = {"time": moment.isoformat(), "client": client, "event": action, **details}
    try:
        audit.AuditLog(Path(log)).append(line)
    except AuditError as error:
        logger.error("%s is not in the audit log: %s", action, error)
        return str(error)
    return None


def _status(error: BucklerError) -> int:
    if isinstance(error, ServiceError) and error.status:
        # An internal error of the service is a 502 of the console.
        return error.status if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus.BAD_GATEWAY
    if isinstance(error, bodies.TooLargeError):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return HTTPStatus.BAD_GATEWAY if isinstance(error, UnreachableError) else HTTPStatus.UNPROCESSABLE_ENTITY


def _next(path: str | None) -> str:
    """Return the page to show after signing in: one of the console's own."""
    return path if path in ("/", "/engineer") else "/"


def _choice(name: str, text: str, known: Mapping[str, T]) -> T:
    """Return the one of ``known`` that a page has sent."""
    if text not in known:
        raise BucklerError(f"expected {name} to be one of {', '.join(known)}, got another; reload the page")
    return known[text]


async def _not_found(request: Request, error: Exception | None = None) -> Response:
    return pages.problem(messages.Problem("Page not found", "Go to the start page."), HTTPStatus.NOT_FOUND)


async def _internal_error(request: Request, error: Exception) -> Response:
    problem = messages.Problem("The console failed", "Try again. The console's log has the error.")
    return pages.problem(problem, HTTPStatus.INTERNAL_SERVER_ERROR)
