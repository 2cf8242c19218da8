"""HTML templates of the reports and the style sheet that all pages share.

A page is one file with embedded styles and pictures; it loads nothing and runs no script. Bars and charts are SVG,
because browsers do not print backgrounds by default.
"""

import jinja2


def environment() -> jinja2.Environment:
    """Return a Jinja environment for the templates in this folder: autoescaping, undefined names are errors."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style_sheet() -> str:
    """Return the style sheet."""
    return environment().get_template("style.css").render()
