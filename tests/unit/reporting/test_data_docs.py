"""Data Docs are readable offline."""

from buckler.data import expectations, manifest
from buckler.reporting import data_docs

LIMITS = expectations.ValidateParams(
    min_side=32, max_side=100, min_per_class=1, max_imbalance=2.0, max_undecodable=0.1, labels=()
)


def outcome():
    """The validation of one good and one too narrow picture."""
    shared = {"path": "", "height": 48, "mode": "RGB", "bytes": 100, "source": "directory", "group": ""}
    rows = [
        {"id": f"{label}/1.png", "sha256": label, "label": label, "width": width, **shared}
        for label, width in (("benign", 64), ("malignant", 8))
    ]
    frame = manifest.build(rows)
    return expectations.check(frame, ["none", "none"], frame, LIMITS, ("malignant",))


def test_data_docs_load_nothing_and_replace_older_pages(tmp_path):
    folder = tmp_path / "docs"
    (folder / "old").mkdir(parents=True)
    (folder / "old/page.html").write_text("old")
    data_docs.write(outcome(), folder)
    pages = {page.relative_to(folder).parts[0]: page.read_text() for page in folder.rglob("*.html")}
    assert pages.keys() == {"index.html", "expectations", "validations"}
    for page in folder.rglob("*.html"):
        text = page.read_text()
        assert "http" not in text
        assert not any(tag in text for tag in ("<script", "<link", "<img", "@import", "url("))
    assert "malignant/1.png" in pages["index.html"]
    assert "values must be" in "".join(page.read_text() for page in folder.glob("validations/pictures/**/*.html"))


def test_text_of_the_index_is_escaped(tmp_path):
    data_docs.write_index(tmp_path, ("seen",), [("<b>a & b</b>",)])
    assert "<td>&lt;b&gt;a &amp; b&lt;/b&gt;</td>" in (tmp_path / "index.html").read_text()
