"""Renders templates; everything in them is escaped, and nothing of them names another host."""

from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from buckler.detection.reasons import Reason
from buckler.reporting import charts
from services.console import curves, messages

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
    """Return ``templates/<name>.html``, a page or a part of one."""
    return HTMLResponse(_templates().get_template(f"{name}.html").render(values), status_code=status)


def problem(found: messages.Problem, status: int) -> Response:
    """Return what went wrong, as a part of a page."""
    return render("problem", status=status, problem=found)


def _ticks(text: str) -> Markup:
    """Return a sentence of ours with what stands in backticks as code, its first letter large."""
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
        "moment": messages.moment,
        "duration": messages.duration,
        "short": messages.short,
        "sureness": messages.sureness,
        "score": messages.score,
        "ticks": _ticks,
        "spark": curves.spark,
        "interval": charts.interval,
    }
    environment.globals |= {"size": curves, "REASONS": {str(reason): reason for reason in Reason}}
    return environment
