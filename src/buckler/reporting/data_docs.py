"""Data Docs of a validation: Great Expectations' pages, made readable offline, and an index.

The original pages load styles, scripts and a logo from content delivery networks. A hospital network may block these,
and a request would reveal what is being read. All external references are therefore removed, and the reports' style
sheet is embedded. The original index needs a script; a plain table replaces it.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from buckler.evaluation.reports import ValidationReport
from buckler.reporting import templates

_BLOCK: Final = re.compile(r"<(script|style|footer)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_LINK: Final = re.compile(r"<link\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_IMAGE: Final = re.compile(r"<img\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_ADDRESS: Final = re.compile(r"""\s(?:href|src|integrity|crossorigin)=["']?https?://[^"'\s>]*["']?""")
_UP: Final = re.compile(r"(?:\.\./)+")
COLUMNS: Final = ("", "expectation", "severity", "expected", "observed")


def write(validation: ValidationReport, pages: Path, folder: Path) -> None:
    """Write Great Expectations' ``pages`` and an index of ``validation`` to ``folder``, replacing its contents."""
    shutil.rmtree(folder, ignore_errors=True)
    names = sorted(page.relative_to(pages).as_posix() for page in pages.rglob("*.html"))
    for name in names:
        page = folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(offline((pages / name).read_text(encoding="utf-8")), encoding="utf-8")
    rows = (
        ("\u2714" if one.passed else "\u2718", one.name, one.severity, one.expected, one.seen)
        for one in validation.expectations
    )
    index = templates.environment().get_template("validation.html")
    (folder / "index.html").write_text(index.render(columns=COLUMNS, rows=rows, pages=names), encoding="utf-8")


def offline(page: str) -> str:
    """Return ``page`` with the reports' style sheet, without scripts, images and external references."""
    page = _UP.sub("../", page)  # the library's validations are deeper in its own tree
    for unwanted in (_COMMENT, _BLOCK, _LINK, _IMAGE, _ADDRESS):
        page = unwanted.sub("", page)
    return page.replace("</head>", f"<style>\n{templates.style_sheet()}\n</style>\n</head>", 1)
