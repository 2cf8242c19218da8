import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from buckler.attacks.gradient import FGSM
from buckler.attacks.noise import Noise
from buckler.evaluation.convergence import Convergence
from buckler.evaluation.sanity import CHECKS
from buckler.evaluation.statistics import wilson
from buckler.reporting import page, templates
from buckler.state import documents
from tests import projects

LABELS = ("gutartig <1 mm & glatt>", "bösartig")


def document(tmp_path, **more):
    """Return a report read back from its file: an attack at two radii, a control, two checks."""
    cells = [dict(projects.cell(radius, 41 - radius, 80)) for radius in (1, 2)]
    cells.append(projects.cell(2, 79, 80) | {"attack": "noise", "name": "noise"})
    facts = {
        "model": {"digest": "sha256:" + 64 * "a"},
        "data": {"version": "sha256:" + 64 * "b", "images": 100},
        "labels": LABELS,
        "clean_accuracy": wilson(80, 100),
        "clean_confusion": [[44, 16], [4, 36]],
        "cells": cells,
        "worst_case": [{"epsilon_255": e, "robust_accuracy": wilson(41 - e, 100)} for e in (1, 2)],
        "checks": [
            {"name": "gradients_not_zero", "kind": "gradients", "passed": True, "detail": "0 of 32 < 1"},
            {"name": "noise_not_stronger_than_fgsm_at_2", "kind": "noise", "passed": True, "detail": "0.790 & 0.390"},
        ],
    }
    documents.write_json(tmp_path / "robustness.json", {**facts, **more})
    return documents.read_json(tmp_path / "robustness.json")


def optional():
    """Return the optional parts of a report."""
    rate, rates = wilson(1, 7), [0.0, 0.25, 0.5, 0.9, 0.9]
    worst = [
        {"epsilon_255": e, "robust_accuracy": wilson(41 - e, 100), "malignant_to_benign_rate": wilson(30 + e, 41)}
        | {"sensitivity": wilson(11 - e, 41), "specificity": None}
        for e in (1, 2)
    ]
    in_group = [{"epsilon_255": e, "robust_accuracy": rate, "sensitivity": None} for e in (1, 2)]
    return {
        "malignant": LABELS[1:],
        "worst_case": worst,
        "subgroups": [
            {"column": "site", "group": "Rücken & <Arm>", "pictures": 7, "clean_accuracy": rate, "worst_case": in_group}
        ],
        "convergence": [
            Convergence("pgd", 1, 61, list(range(5)), rates, 0.9, True),
            Convergence("pgd", 2, 61, list(range(5)), [*rates[:4], 0.95], 0.9, False),
        ],
    }


def triptychs():
    clean = np.full((4, 4, 3), 100 / 255, np.float32)
    examples = [page.Example(LABELS[0], LABELS[0], LABELS[1], clean, clean + np.float32(2 / 255))]
    return [page.Triptychs(attack, "linf", 2, tuple(examples)) for attack in ("fgsm", "pgd")]


def rows(text):
    """Return the words of each table row, after checking that the page is well-formed."""
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    return [" ".join(" ".join(row.itertext()).split()) for row in tree.iter("tr")]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def tags(text, name=None):
    parser = Tags()
    parser.feed(text)
    return [attributes for tag, attributes in parser.seen if name in (tag, None)]


@pytest.mark.parametrize("more", [dict, optional])
def test_the_page_is_well_formed_and_has_every_number_of_the_report(tmp_path, more):
    report = document(tmp_path, **more())
    text = page.render(report, triptychs())
    found = rows(text)
    for cell in report["cells"]:
        rate = cell["robust_accuracy"]
        numbers = f"{rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}) {cell['attack_success_rate']:.1%}"
        start = f"{cell['attack']} linf {cell['epsilon_255']}/255 {cell['steps']} {cell['restarts']} {cell['seed']}"
        assert f"{start} float32 float32 {numbers} {cell['malignant_to_benign_rate']:.1%}" in found
    for row in report["worst_case"]:
        rate = row["robust_accuracy"]
        start = f"{row['epsilon_255']}/255 {rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%})"
        assert any(line.startswith(start) for line in found)
    for fact in (report["model"]["digest"], report["data"]["version"], "100 test pictures", "80.0%", "60.0% here"):
        assert fact in " ".join(text.split())
    assert "gutartig <1 mm & glatt> 44 16" in found
    assert "bösartig 4 36" in found


def test_optional_parts_are_shown_only_if_present(tmp_path):
    bare, full = page.render(document(tmp_path)), page.render(document(tmp_path, **optional()))
    for heading in ("Convergence of the attack", "<h2>Subgroups", '<th scope="col">sensitivity'):
        assert heading in full
        assert heading not in bare
    assert "1/255 40.0% (30.9% to 49.8%) 75.6% (60.7% to 86.2%) 24.4% (13.8% to 39.3%)" in rows(full)
    assert any(row.startswith("Rücken & <Arm> 7 14.3%") for row in rows(full))
    assert "specificity" not in full
    assert "Examples of attacked pictures" not in full


def test_the_page_states_whether_the_attack_has_converged(tmp_path):
    text = page.render(document(tmp_path, **optional()))
    in_last_quarter = "percentage points of that in the last quarter of the steps"
    assert f"At 1/255: 90.0% flipped after 4 steps, 0.0 {in_last_quarter}: converged." in text
    assert f"At 2/255: 95.0% flipped after 4 steps, 5.0 {in_last_quarter}: not converged" in text


def test_every_check_is_listed_and_a_failed_one_also_at_the_top(tmp_path):
    report = document(tmp_path)
    text = page.render(report)
    assert "✔ All 2 checks of this evaluation passed" in text
    assert "noise not stronger than fgsm at 2 ✔ passed 0.790 & 0.390" in rows(text)
    report["checks"][0]["passed"] = False
    text = page.render(report)
    assert "gradients not zero ✘ failed 0 of 32 < 1" in rows(text)
    assert "✘ 1 of 2 checks of this evaluation failed:\n  gradients_not_zero." in text
    assert text.index("1 of 2 checks") < text.index("<main>")


def test_a_check_of_an_unknown_kind_is_listed_too(tmp_path):
    report = document(tmp_path)
    report["checks"].append({"name": "xyz", "passed": True, "detail": "as expected"})
    assert "xyz ✔ passed as expected" in rows(page.render(report))


def test_the_page_loads_nothing_and_runs_no_script(tmp_path):
    text = page.render(document(tmp_path, **optional()), triptychs())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|\son\w+=", text)
    pictures = [image["src"] for image in tags(text, "img")]
    assert len(pictures) == 6
    assert all(source.startswith("data:image/png;base64,") for source in pictures)


def test_markup_in_labels_attacks_and_checks_is_escaped(tmp_path):
    evil = '"><script>alert(1)</script>'
    report = document(tmp_path)
    harmless = page.render(report)
    report["labels"], report["cells"][0]["attack"] = [evil, "bösartig"], "'><b>"
    report["checks"][0]["detail"] = "<img src=x>"
    text = page.render(report)
    assert "<script" not in text
    assert not tags(text, "img")
    assert not tags(text, "b")
    assert any(evil in row for row in rows(text))
    assert len(tags(text, "h2")) == len(tags(harmless, "h2"))


def test_images_and_tables_are_described_for_screen_readers(tmp_path):
    text = page.render(document(tmp_path, **optional()), triptychs())
    assert all(image["alt"] for image in tags(text, "img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in tags(text, "svg"))
    assert all(header["scope"] in ("col", "row", "rowgroup") for header in tags(text, "th"))
    assert len(tags(text, "caption")) == len(tags(text, "table"))
    assert tags(text, "html") == [{"lang": "en"}]
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_same_report_gives_the_same_page(tmp_path):
    report = document(tmp_path, **optional())
    assert page.render(report, triptychs()) == page.render(report, triptychs())


def test_each_norm_has_its_own_chart_and_attacks_on_survivors_are_marked(tmp_path):
    report = document(tmp_path)
    report["cells"][1] |= {"norm": "l2", "name": "late", "only_survivors": True, "knowledge": "score", "queries": 77}
    report["cells"][2] |= {"knowledge": "none"}
    text = page.render(report)
    assert text.count("Line chart: robust accuracy by radius") == 2
    assert any(row.startswith("late l2 2/255 77 queries") for row in rows(text))
    assert any(row.startswith("late black box, scores after all attacks before it in the suite") for row in rows(text))
    assert 'class="control"' in text


def test_the_page_describes_its_attacks_and_checks(tmp_path):
    text = " ".join(page.render(document(tmp_path)).split())
    for words in (FGSM.description, Noise.description, CHECKS["gradients"].failure, CHECKS["noise"].description):
        assert words in text


def colours():
    """Return the style sheet's colours of the light and of the dark theme."""
    light, dark = templates.style_sheet().split("prefers-color-scheme: dark")
    return [dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", half)) for half in (light, dark)]


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("theme", colours(), ids=["light", "dark"])
def test_colours_have_sufficient_contrast(theme):
    """WCAG 2.2, 1.4.3: 4.5 for text; 1.4.11: 3 for lines."""

    def contrast(a, b):
        low, high = sorted(luminance(theme[name]) for name in (a, b))
        return (high + 0.05) / (low + 0.05)

    for ink in ("fg", "muted", "pass", "fail"):
        assert min(contrast(ink, "bg"), contrast(ink, "panel")) >= 4.5, ink
    for ink in ("accent", *(f"c{i}" for i in range(8))):
        assert contrast(ink, "bg") >= 3, ink
