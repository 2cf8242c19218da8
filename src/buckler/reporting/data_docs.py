"""Data Docs of a validation: Great Expectations' pages in the style of the reports, and an index.

The library's own index needs a script; a plain table replaces it.
"""

import shutil
from pathlib import Path
from typing import Final

from buckler.evaluation.reports import ValidationReport
from buckler.reporting import templates

COLUMNS: Final = ("", "expectation", "severity", "expected", "observed")


def write(validation: ValidationReport, pages: Path, folder: Path) -> None:
    """Write Great Expectations' ``pages`` and an index of ``validation`` to ``folder``, replacing its contents."""
    shutil.rmtree(folder, ignore_errors=True)
    style = f"<style>\n{templates.style_sheet()}\n</style>\n</head>"
    names = sorted(page.relative_to(pages).as_posix() for page in pages.rglob("*.html"))
    for name in names:
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        text = (pages / name).read_text(encoding="utf-8")
        page.write_text(text.replace("</head>", style, 1), encoding="utf-8")
    rows = (
        ("\u2714" if one.passed else "\u2718", one.name, one.severity, one.expected, one.seen)
        for one in validation.expectations
    )
    index = templates.environment().get_template("validation.html")
    (folder / "index.html").write_text(index.render(columns=COLUMNS, rows=rows, pages=names), encoding="utf-8")
