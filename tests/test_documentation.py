"""Names in the documentation exist in the code, and the documentation explains the code's names."""

import dataclasses
import re
from pathlib import Path

import pytest

from buckler.attacks.table import ATTACKS
from buckler.evaluation.sanity import CHECKS
from buckler.release.policy import Policy

ROOT = Path(__file__).parents[1]
PROTOCOL, THREATS = (
    (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("evaluation-protocol", "threat-model")
)
# The changelog names files of earlier versions.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})
PACKAGES = ("benchmarks", "drills", "infra", "monitoring", "pipelines", "services", "tests")
# Python and Markdown files and source folders, not the files that commands write.
IS_SOURCE = re.compile(
    rf"[\w/.-]+\.(py|md)|(docs|src|{'|'.join(PACKAGES)})/[\w/.-]*|(attacks|detection|evaluation|release|serving|trust|watch)/"
)
FDA = (
    "Data poisoning",
    "Model inversion and stealing",
    "Model evasion",
    "Data leakage",
    "Overfitting",
    "Model bias",
    "Performance drift",
)


def quoted(document):
    """Return all inline code: text in single backticks."""
    without_blocks = re.sub(r"```.*?```", "", document, flags=re.DOTALL)
    return set(re.findall(r"`([^`]+)`", without_blocks))


def table_under(document, heading):
    """Return the rows of the table under a heading, as lists of cells."""
    section = document.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_the_threat_model_names_every_attack_and_no_other():
    rows = table_under(THREATS, "Attacker knowledge, attacks, and MITRE ATLAS")
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    assert sorted(named) == sorted(ATTACKS)


def test_the_control_is_not_called_an_attack():
    (row,) = (
        row for row in table_under(THREATS, "Attacker knowledge, attacks, and MITRE ATLAS") if "`noise`" in row[2]
    )
    assert ATTACKS["noise"].control
    assert "not an attack" in row[2]


def test_each_of_the_seven_threats_has_a_row_with_its_limits():
    rows = table_under(THREATS, "The FDA's seven threats")
    assert [row[0] for row in rows] == list(FDA)
    assert all(row[-1] for row in rows)


def test_the_protocol_lists_every_check_with_the_text_of_the_table():
    rows = table_under(PROTOCOL, "Doubt: checks that fail the gate")
    assert rows == [[f"`{check.name}`", check.description, check.failure] for check in CHECKS.values()]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_a_description_and_a_source(name):
    attack = ATTACKS[name]
    assert attack.description.endswith(".")
    assert attack.source or attack.control


def test_the_protocol_names_every_rule_of_the_policy():
    assert {field.name for field in dataclasses.fields(Policy)} <= quoted(PROTOCOL)


@pytest.mark.parametrize("document", [PROTOCOL, THREATS], ids=["protocol", "threats"])
def test_every_named_alert_exists(document):
    rules = [path.read_text() for path in (ROOT / "monitoring/prometheus/rules").glob("*.yml")]
    alerts = set(re.findall(r"alert: (\w+)", "\n".join(rules)))
    assert {name for name in quoted(document) if re.fullmatch(r"Buckler[A-Z]\w+", name)} <= alerts


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_folder_and_module_that_a_document_names_exists(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    names = {name for name in {*quoted(text), *links} if IS_SOURCE.fullmatch(name)}
    bases = (ROOT, ROOT / "docs", ROOT / "src/buckler", document.parent)
    assert {name for name in names if not any((base / name).exists() for base in bases)} == set()
    modules = [Path(*name.split(".")) for name in re.findall(rf"python -m ((?:{'|'.join(PACKAGES)})[\w.]*)", text)]
    files = {path: (ROOT / path.with_suffix(".py"), ROOT / path / "__main__.py") for path in modules}
    assert {path for path, places in files.items() if not any(place.exists() for place in places)} == set()
