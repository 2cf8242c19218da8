import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from buckler.attacks.gradient import FGSM
from buckler.attacks.noise import Noise
from buckler.evaluation.illustrations import Illustrated
from buckler.evaluation.reports import MeasuredModel
from buckler.evaluation.sanity import CHECKS
from buckler.evaluation.statistics import wilson
from buckler.measurements.results import (
    AttackedData,
    AttackedPicture,
    CheckResult,
    Convergence,
    Illustration,
    Subgroup,
    WorstCase,
)
from buckler.radius import StatedRadius
from buckler.reporting import page, templates
from tests import projects

LABELS = ("gutartig <1 mm & glatt>", "bösartig")


def document(**changes):
    """Return a report: an attack at two radii, a control, two checks."""
    cells = [projects.cell(radius, 41 - radius, 80) for radius in (1, 2)]
    cells.append(replace(projects.cell(2, 79, 80), attack="noise", name="noise"))
    facts = {
        "model": MeasuredModel("sha256:" + 64 * "a", "sha256:0"),
        "data": AttackedData("sha256:" + 64 * "b", 100, 64 * "0"),
        "labels": LABELS,
        "malignant": (),
        "clean_accuracy": wilson(80, 100),
        "clean_confusion": [[44, 16], [4, 36]],
        "cells": tuple(cells),
        "worst_case": tuple(WorstCase(StatedRadius(e), wilson(41 - e, 100), None, None, None) for e in (1, 2)),
        "subgroups": (),
        "checks": (
            CheckResult("gradients_not_zero", "gradients", True, "0 of 32 < 1"),
            CheckResult("noise_not_stronger_than_fgsm_at_2/255", "noise", True, "0.790 & 0.390"),
        ),
    }
    return projects.robustness(MeasuredModel("", ""), 80, 40).model_copy(update={**facts, **changes})


def optional():
    """Return the optional parts of a report."""
    rate, rates = wilson(1, 7), [0.0, 0.25, 0.5, 0.9, 0.9]
    worst = tuple(
        WorstCase(StatedRadius(e), wilson(41 - e, 100), wilson(30 + e, 41), wilson(11 - e, 41), None) for e in (1, 2)
    )
    in_group = tuple(WorstCase(StatedRadius(e), rate, None, None, None) for e in (1, 2))
    return {
        "malignant": LABELS[1:],
        "worst_case": worst,
        "subgroups": (Subgroup("site", "Rücken & <Arm>", 7, rate, in_group),),
        "convergence": (
            Convergence("pgd", StatedRadius(1), 61, list(range(5)), rates, 0.9, True),
            Convergence("pgd", StatedRadius(2), 61, list(range(5)), [*rates[:4], 0.95], 0.9, False),
        ),
    }


def illustrated():
    clean = np.full((1, 4, 4, 3), 100 / 255, np.float32)
    shown = (AttackedPicture("1.png", LABELS[0], LABELS[0], LABELS[1]),)
    return [
        Illustrated(Illustration(attack, "linf", 2, shown), clean, clean + np.float32(2 / 255))
        for attack in ("fgsm", "pgd")
    ]


MODEL = MeasuredModel("sha256:" + 64 * "a", "sha256:0")
DECISIONS, EVALUATION = projects.decisions(MODEL), projects.evaluation(MODEL, 80)


def rendered(report, shown=(), decisions=DECISIONS, evaluation=EVALUATION):
    return page.render(report, decisions, evaluation, shown)


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
def test_the_page_is_well_formed_and_has_every_number_of_the_report(more):
    report = document(**more())
    text = rendered(report, illustrated())
    found = rows(text)
    for cell in report.cells:
        rate = cell.robust_accuracy
        numbers = f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}) {cell.attack_success_rate:.1%}"
        start = f"{cell.attack} linf {cell.radius} {cell.steps} {cell.restarts} {cell.seed}"
        assert f"{start} float32 float32 {numbers} {cell.malignant_to_benign_rate:.1%}" in found
    for row in report.worst_case:
        rate = row.robust_accuracy
        start = f"{row.radius} {rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"
        assert any(line.startswith(start) for line in found)
    for fact in (report.model.digest, report.data.version, "100 test pictures", "80.0%", "60.0% here"):
        assert fact in " ".join(text.split())
    assert "gutartig <1 mm & glatt> 44 16" in found
    assert "bösartig 4 36" in found


@pytest.mark.parametrize(("source", "warned"), [("synthetic", True), ("directory", False), (None, False)])
def test_the_page_says_whether_the_pictures_were_drawn(source, warned):
    data = AttackedData("sha256:" + 64 * "b", 100, 64 * "0", source)
    text = rendered(document(data=data))
    assert ("It is not for clinical use." in text) == warned
    rows(text)  # well-formed


def test_optional_parts_are_shown_only_if_present():
    bare, full = rendered(document()), rendered(document(**optional()))
    for heading in ("Convergence of the attack", "<h2>Subgroups", '<th scope="col">sensitivity'):
        assert heading in full
        assert heading not in bare
    assert "1/255 40.0% (30.9% to 49.8%) 75.6% (60.7% to 86.2%) 24.4% (13.8% to 39.3%)" in rows(full)
    assert any(row.startswith("Rücken & <Arm> 7 14.3%") for row in rows(full))
    assert "specificity" not in full
    assert "Examples of attacked pictures" not in full


def test_the_page_shows_what_decisions_miss_and_cost_with_and_without_the_limit():
    text = rendered(document())
    found = rows(text)
    assert "accepted misses 2.0% (0.4% to 10.5%) 20.0% (11.2% to 33.0%)" in found
    assert "reviews of all pictures 12.0% (7.0% to 19.8%) 3.0% (1.0% to 8.5%)" in found
    assert "The picture may show something dangerous danger_not_excluded 9.0% (4.8% to 16.2%) –" in found
    assert "The model is not sure low_confidence 3.0% (1.0% to 8.5%) 3.0% (1.0% to 8.5%)" in found
    assert "80.0% to 90.0% 49 40" in found
    words = " ".join(text.split())
    assert "more probable than 20.0%. At this limit, 1 of 93 dangerous calibration pictures pass as harmless" in words
    assert "Calibration error 5.0%; 8.0% before the logits were divided by the temperature 1.50." in words


def test_the_page_says_that_there_is_no_limit_or_no_need_of_one():
    without = DECISIONS.model_copy(update={"danger": replace(DECISIONS.danger, limit=None, pictures=50)})
    words = " ".join(rendered(document(), decisions=without).split())
    assert "The 50 dangerous calibration pictures set no limit for an answer with a harmless label" in words
    rates = {"accepted_misses": None, "dangerous_reviews": None}
    served = {name: replace(getattr(DECISIONS, name), **rates) for name in ("with_limit", "without_limit")}
    harmless = rendered(document(), decisions=DECISIONS.model_copy(update={"danger": None, **served}))
    assert "No label is marked as dangerous to miss" in harmless
    assert "reviews of dangerous pictures" not in harmless
    rows(harmless)  # well-formed


def test_the_page_states_whether_the_attack_has_converged():
    text = rendered(document(**optional()))
    in_last_quarter = "percentage points of that in the last quarter of the steps"
    assert f"At 1/255: 90.0% flipped after 4 steps, 0.0 {in_last_quarter}: converged." in text
    assert f"At 2/255: 95.0% flipped after 4 steps, 5.0 {in_last_quarter}: not converged" in text


def test_every_check_is_listed_and_a_failed_one_also_at_the_top():
    report = document()
    text = rendered(report)
    assert "✔ All 2 checks of this evaluation passed" in text
    assert "noise not stronger than fgsm at 2/255 ✔ passed 0.790 & 0.390" in rows(text)
    failed = replace(report.checks[0], passed=False)
    text = rendered(report.model_copy(update={"checks": (failed, report.checks[1])}))
    assert "gradients not zero ✘ failed 0 of 32 < 1" in rows(text)
    assert "✘ 1 of 2 checks of this evaluation failed:\n  gradients_not_zero." in text
    assert text.index("1 of 2 checks") < text.index("<main>")


def test_a_check_of_an_unknown_kind_is_listed_too():
    report = document(checks=(CheckResult("xyz", "of a later version", True, "as expected"),))
    assert "xyz ✔ passed as expected" in rows(rendered(report))


def test_the_page_loads_nothing_and_runs_no_script():
    text = rendered(document(**optional()), illustrated())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|\son\w+=", text)
    pictures = [image["src"] for image in tags(text, "img")]
    assert len(pictures) == 6
    assert all(source.startswith("data:image/png;base64,") for source in pictures)


def test_markup_in_labels_attacks_and_checks_is_escaped():
    evil = '"><script>alert(1)</script>'
    report = document()
    harmless = rendered(report)
    changed = {
        "labels": (evil, "bösartig"),
        "cells": (replace(report.cells[0], attack="'><b>"), *report.cells[1:]),
        "checks": (replace(report.checks[0], detail="<img src=x>"), *report.checks[1:]),
    }
    text = rendered(report.model_copy(update=changed))
    assert "<script" not in text
    assert not tags(text, "img")
    assert not tags(text, "b")
    assert any(evil in row for row in rows(text))
    assert len(tags(text, "h2")) == len(tags(harmless, "h2"))


def test_images_and_tables_are_described_for_screen_readers():
    text = rendered(document(**optional()), illustrated())
    assert all(image["alt"] for image in tags(text, "img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in tags(text, "svg"))
    assert all(header["scope"] in ("col", "row", "rowgroup") for header in tags(text, "th"))
    assert len(tags(text, "caption")) == len(tags(text, "table"))
    assert tags(text, "html") == [{"lang": "en"}]
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_same_report_gives_the_same_page():
    report = document(**optional())
    assert rendered(report, illustrated()) == rendered(report, illustrated())


def test_each_norm_has_its_own_chart_and_attacks_on_survivors_are_marked():
    first, late, control = document().cells
    late = replace(late, norm="l2", name="late", only_survivors=True, knowledge="score", queries=77)
    text = rendered(document(cells=(first, late, replace(control, knowledge="none"))))
    assert text.count("Line chart: robust accuracy by radius") == 2
    assert any(row.startswith("late l2 2/255 77 queries") for row in rows(text))
    assert any(row.startswith("late black box, scores after all attacks before it in the suite") for row in rows(text))
    assert 'class="control"' in text


def test_the_page_describes_its_attacks_and_checks():
    text = " ".join(rendered(document()).split())
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


def test_clean_accuracy_stands_beside_balanced_accuracy_and_the_area_under_the_roc_curve():
    shown = " ".join(rendered(document()).split())
    assert "balanced accuracy (mean of the classes) 80.0%" in shown
    assert 'area under the ROC curve 0.900 <span class="interval">(0.820 to 0.950)</span>' in shown
    earlier = EVALUATION.model_copy(update={"balanced_accuracy": None, "roc_auc_interval": None})
    shown = " ".join(rendered(document(), evaluation=earlier).split())
    assert "balanced accuracy" not in shown
    assert "area under the ROC curve 0.900" in shown
