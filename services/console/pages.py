"""Renders the templates. Every value is escaped, and no page loads anything from another host."""

from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from buckler.detection.reasons import Reason
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.model_card import SYNTHETIC_BANNER
from services.console import messages, model_facts, robustness_chart, sparkline
from services.console.service_client import PictureAnswer

HERE = Path(__file__).parent
STATIC = HERE / "static"
RUNBOOKS = HERE.parents[1] / "docs/runbooks"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def render(name: str, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
    """Return ``templates/<name>.html`` with ``values``: a page or a part of a page."""
    return HTMLResponse(_templates().get_template(f"{name}.html").render(values), status_code=status)


def answer(found: PictureAnswer) -> Response:
    """Return an answer to a picture as a part of a page."""
    answer, card = found.answer, found.card
    return render(
        "answer",
        found=found,
        answer=answer,
        model=model_facts.of(card),
        similar=model_facts.similar_answers(card, answer.probabilities[answer.label]),
        heat_map_note=model_facts.heat_map_note(card, found.heat_map),
        answered_at=datetime.now(UTC),
    )


def runbook(alert: str) -> Response | None:
    """Return the runbook of an alert as text; None if there is none, as in an image without documentation."""
    known = {path.stem: path for path in RUNBOOKS.glob("*.md")}
    return PlainTextResponse(known[alert].read_text(encoding="utf-8")) if alert in known else None


def problem(problem: messages.Problem, status: int) -> Response:
    """Return an error as a part of a page."""
    return render("problem", status=status, problem=problem)


def _sentence(text: str) -> Markup:
    """Return an error message with a capital first letter and the text between backticks as code."""
    parts = text[:1].upper() + text[1:]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts.split("`"))
    )


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": messages.percent,
        "file_size": messages.file_size,
        "moment": messages.moment,
        "run_time": messages.run_time,
        "duration": messages.duration,
        "short": messages.short,
        "sureness": messages.sureness,
        "score": messages.score,
        "sentence": _sentence,
        "polylines": sparkline.polylines,
        "interval": messages.interval,
    }
    environment.globals |= {
        "SYNTHETIC_BANNER": SYNTHETIC_BANNER,
        "CHAMPION": CHAMPION,
        "CHALLENGER": CHALLENGER,
        "REASONS": {str(reason): reason for reason in Reason},
        "chart_size": robustness_chart,
        "sparkline_size": sparkline,
    }
    return environment
