"""Data Docs are readable offline, and the same for the same pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from buckler.data import expectations, manifest
from buckler.reporting import data_docs
from tests import projects
from tests.forms import PICTURE

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"href=['\"]?([^'\"# >]+)")
LIMITS = expectations.ValidateParams(
    min_side=32, max_side=100, min_per_class=1, max_imbalance=2.0, max_undecodable=0.1, labels=()
)


def outcome(name="1.png"):
    """The validation of one good and one too narrow picture."""
    shared = {"path": "", "height": "48", "mode": "RGB", "bytes": 100, "source": "directory", "group": ""}
    rows = [
        {"id": f"{label}/{name}", "sha256": label, "label": label, "width": width, **shared}
        for label, width in (("benign", "64"), ("malignant", "8"))
    ]
    frame, facts = manifest.build(rows), PICTURE.checks(low=LIMITS.min_side, high=LIMITS.max_side)
    return expectations.check(frame, ["none", "none"], frame, LIMITS, ("malignant",), facts)


def write(result, folder):
    """Write the pages of ``result`` as the stages ``validate`` and ``report`` do."""
    pages = folder.parent / "pages"
    for name, text in result.pages().items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(text)
    report = projects.validation().model_copy(update={"expectations": result.results})
    data_docs.write(report, pages, folder)


def test_data_docs_load_nothing_and_replace_older_pages(tmp_path):
    folder = tmp_path / "docs"
    (folder / "old").mkdir(parents=True)
    (folder / "old/page.html").write_text("old")
    write(outcome(), folder)
    pages = {page.relative_to(folder).parts[0]: page.read_text() for page in folder.rglob("*.html")}
    assert pages.keys() == {"index.html", "expectations", "validations"}
    links = {
        (page.parent / link).resolve() for page in folder.rglob("*.html") for link in LINK.findall(page.read_text())
    }
    assert links == set(folder.rglob("*.html"))
    for page in folder.rglob("*.html"):
        text = page.read_text()
        assert "http" not in text
        assert not any(tag in text for tag in ("<script", "<link", "<img", "@import", "url("))
    assert "malignant/1.png" in pages["index.html"]
    assert "values must be" in "".join(page.read_text() for page in folder.glob("validations/*.html"))


def test_text_of_the_index_is_escaped(tmp_path):
    write(outcome("<b>&.png"), tmp_path / "docs")
    text = (tmp_path / "docs/index.html").read_text()
    assert "malignant/&lt;b&gt;&amp;.png" in text
    assert "<b>" not in text


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from tests.unit.reporting.test_data_docs import outcome, write; write(outcome(), Path(sys.argv[1]))"
    )
    written = []
    for seed in ("1", "2"):
        root = tmp_path / f"project {seed}"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC-{seed}"}
        subprocess.run([sys.executable, "-c", code, root / "docs"], check=True, env=environment, cwd=ROOT)
        written.append({page.relative_to(root): page.read_bytes() for page in root.rglob("*.html")})
    assert written[0] == written[1]
    assert len(written[0]) == 4 + 5
