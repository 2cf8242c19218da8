"""Data Docs of a validation: Great Expectations' pages, made readable offline, and an index.

The original pages load styles, scripts and a logo from content delivery networks. A hospital network may block these,
and a request would reveal what is being read. All external references are therefore removed, and the reports' style
sheet is embedded. The original index needs a script; a plain table replaces it.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from buckler.data.expectations import ValidationResult
from buckler.reporting import templates

_BLOCK: Final = re.compile(r"<(script|style|footer)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_LINK: Final = re.compile(r"<link\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_IMAGE: Final = re.compile(r"<img\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_ADDRESS: Final = re.compile(r"""\s(?:href|src|integrity|crossorigin)=["']?https?://[^"'\s>]*["']?""")
COLUMNS: Final = ("", "expectation", "severity", "expected", "observed")


def write(validation: ValidationResult, folder: Path) -> None:
    """Write the pages of ``validation`` and an index to ``folder``, replacing its contents."""
    validation.write_pages(folder)
    make_offline(folder)
    rows = (
        ("\u2714" if one.passed else "\u2718", one.name, one.severity, one.expected, one.seen)
        for one in validation.results
    )
    write_index(folder, COLUMNS, rows)


def make_offline(folder: Path) -> None:
    """Remove external references from every page in ``folder``; delete all other files."""
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".html":
            file.write_text(offline(file.read_text(encoding="utf-8")), encoding="utf-8")
        elif file.is_file():
            file.unlink()
    for empty in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(empty.iterdir()):
            empty.rmdir()


def write_index(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write ``index.html``: a table of ``rows``, then links to the other pages in ``folder``."""
    pages = sorted(page.relative_to(folder).as_posix() for page in folder.rglob("*.html") if page.parent != folder)
    text = templates.environment().get_template("validation.html").render(columns=columns, rows=rows, pages=pages)
    (folder / "index.html").write_text(text, encoding="utf-8")


def offline(page: str) -> str:
    """Return ``page`` with the reports' style sheet, without scripts, images and external references."""
    for unwanted in (_COMMENT, _BLOCK, _LINK, _IMAGE, _ADDRESS):
        page = unwanted.sub("", page)
    return page.replace("</head>", f"<style>\n{templates.style_sheet()}\n</style>\n</head>", 1)
