"""Makes the pages that Great Expectations writes readable without a network.

They load styles, scripts and a logo from several content delivery networks. In a hospital these cannot be
reached, and a browser that tries tells the outside what is looked at. So all of that goes, and a short style
sheet, in the pages themselves, takes its place. Their index is drawn by a script;
a plain table of ours replaces it.
"""

import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(r"<(script|style|footer)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_LINK: Final = re.compile(r"<link\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_IMAGE: Final = re.compile(r"<img\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_ADDRESS: Final = re.compile(r"""\s(?:href|src|integrity|crossorigin)=["']?https?://[^"'\s>]*["']?""")
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 1100px; padding: 1rem; }
h1, h2, h3, h4, h5 { line-height: 1.2; margin: 1em 0 .4em; font-weight: 600; }
a { color: #0b5fa5; }
ul { padding-left: 1.2rem; }
.navbar, .breadcrumb { list-style: none; padding: 0; margin: 0 0 .5rem; }
.breadcrumb { display: flex; gap: .4rem; }
.breadcrumb-item + .breadcrumb-item::before { content: "/ "; color: #888; }
.nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; }
.card, .border { border: 1px solid #ddd; border-radius: 4px; }
.card-header { background: #f5f5f5; padding: .3rem .8rem; }
.card-body, .list-group-item, .m-3 { padding: .3rem .8rem; }
.alert { background: #eef3f7; border-radius: 4px; padding: .4rem .8rem; margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem; font-size: 14px; }
th, td { border-bottom: 1px solid #e2e2e2; padding: .35rem .6rem; text-align: left; vertical-align: top;
  overflow-wrap: break-word; }
th { border-bottom-width: 2px; }
.badge, .badge-info, .badge-secondary { background: #e7ecef; border-radius: 3px; padding: 0 .3rem;
  font: 13px ui-monospace, monospace; }
.text-success { color: #15803d; }
.text-danger { color: #b91c1c; }
.text-warning { color: #b45309; }
.fa-check-circle::before { content: "\\2714"; }
.fa-times::before, .fa-circle-xmark::before { content: "\\2718"; }
.fa-exclamation-triangle::before, .fa-triangle-exclamation::before { content: "\\26A0"; }
.tab-pane, .collapse { display: block !important; }
.modal, .popover, button, .btn, .card:first-child { display: none; }
"""


def make_offline(folder: Path) -> None:
    """Rewrite every page in ``folder`` so that it asks for nothing from outside; other files go."""
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".html":
            file.write_text(offline(file.read_text(encoding="utf-8")), encoding="utf-8")
        elif file.is_file():
            file.unlink()
    for empty in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(empty.iterdir()):
            empty.rmdir()


def write_index(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write ``index.html``: a table of ``rows``, then links to the pages in ``folder``."""
    pages = sorted(page.relative_to(folder).as_posix() for page in folder.rglob("*.html") if page.parent != folder)
    head = _row("th", columns)
    body = "".join(_row("td", row) for row in rows)
    links = "".join(f'<li><a href="{html.escape(page)}">{html.escape(page)}</a></li>\n' for page in pages)
    (folder / "index.html").write_text(
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Validation</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>Validation of the pictures</h1>\n"
        f"<table>\n{head}{body}</table>\n<h2>In detail</h2>\n<ul>\n{links}</ul>\n</body>\n</html>\n",
        encoding="utf-8",
    )


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"


def offline(page: str) -> str:
    """Return ``page`` without scripts, pictures, style sheets and outside addresses, but with our style."""
    for unwanted in (_COMMENT, _BLOCK, _LINK, _IMAGE, _ADDRESS):
        page = unwanted.sub("", page)
    return page.replace("</head>", f"<style>{_STYLE}</style>\n</head>", 1)
