"""The two documents an auditor reads say what the code does: names are held against it."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from buckler.attacks.table import ATTACKS
from buckler.evaluation import sanity
from buckler.release.policy import Policy

ROOT = Path(__file__).parents[1]
PROTOCOL, THREATS = (
    (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("evaluation-protocol", "threat-model")
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
    """Everything in backticks."""
    return set(re.findall(r"`([^`]+)`", document))


def table_under(document, heading):
    """The table's rows under a heading, as lists of cells."""
    section = document.split(f"## {heading}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_every_attack_has_its_place_in_the_threat_model_and_no_other_is_named():
    rows = table_under(THREATS, "Attacker knowledge, attacks, and MITRE ATLAS")
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    assert sorted(named) == sorted(ATTACKS)


def test_the_control_is_not_called_an_attack():
    (row,) = (
        row for row in table_under(THREATS, "Attacker knowledge, attacks, and MITRE ATLAS") if "`noise`" in row[2]
    )
    assert ATTACKS["noise"].control
    assert "not an attack" in row[2]


def test_each_of_the_seven_threats_has_a_row_that_says_what_is_not_covered():
    rows = table_under(THREATS, "The FDA's seven threats")
    assert [row[0] for row in rows] == list(FDA)
    assert all(row[-1] for row in rows)


def test_every_check_is_explained():
    source = ast.parse(Path(sanity.__file__).read_text(encoding="utf-8"))
    literals = {
        node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {text for text in literals if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", text)}
    assert names
    assert {name for name in names if name not in PROTOCOL} == set()


def test_every_rule_of_the_policy_is_named():
    assert {field.name for field in dataclasses.fields(Policy)} <= quoted(PROTOCOL)


@pytest.mark.parametrize("document", [PROTOCOL, THREATS], ids=["protocol", "threats"])
def test_files_and_alerts_that_are_named_exist(document):
    rules = [path.read_text() for path in (ROOT / "monitoring/prometheus/rules").glob("*.yml")]
    alerts = set(re.findall(r"alert: (\w+)", "\n".join(rules)))
    named = quoted(document)
    assert {name for name in named if re.fullmatch(r"Buckler[A-Z]\w+", name)} <= alerts
    for name in named | set(re.findall(r"\]\(([^)]+)\)", document)):
        if re.fullmatch(r"[\w/.-]+\.(py|md)|\w+/", name) and not name.startswith(("reports", "evidence")):
            places = (ROOT, ROOT / "docs", ROOT / "src/buckler")
            assert any((place / name).exists() for place in places), name
