"""Renders the templates. Every value is escaped, and no page loads anything from another host."""

from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from buckler.detection.reasons import Reason
from buckler.serving.aliases import CHALLENGER, CHAMPION
from services.console import messages, robustness_chart, sparkline

HERE = Path(__file__).parent
STATIC = HERE / "static"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
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
        "duration": messages.duration,
        "short": messages.short,
        "sureness": messages.sureness,
        "score": messages.score,
        "sentence": _sentence,
        "polylines": sparkline.polylines,
        "interval": messages.interval,
    }
    environment.globals |= {
        "CHAMPION": CHAMPION,
        "CHALLENGER": CHALLENGER,
        "REASONS": {str(reason): reason for reason in Reason},
        "chart_size": robustness_chart,
        "sparkline_size": sparkline,
    }
    return environment
