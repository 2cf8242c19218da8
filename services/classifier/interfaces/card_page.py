"""The model card as an HTML page, which loads nothing and runs no script."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from buckler.serving.model_card import SOURCES, SYNTHETIC_BANNER, ModelCard

# `data:` for the empty icon, without which browsers ask for /favicon.ico.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

TEMPLATES = Path(__file__).parent / "templates"


def page(card: ModelCard) -> str:
    """Return the card as an HTML document."""
    banner = SYNTHETIC_BANNER if card.data.source == "synthetic" else None
    return _template().render(card=card, source=SOURCES[card.data.source], banner=banner)


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    filters: dict[str, Any] = {
        "percent": lambda share: f"{share:.1%}",
        "moment": lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC",
    }
    environment.filters.update(filters)
    return environment.get_template("card.html")
