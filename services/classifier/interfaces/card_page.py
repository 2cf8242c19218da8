"""The model card as an HTML page, which loads nothing and runs no script."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from buckler.serving.model_card import ModelCard

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

TEMPLATES = Path(__file__).parent / "templates"


def page(card: ModelCard) -> str:
    """Return the card as an HTML document."""
    return _template().render(card=card)


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
