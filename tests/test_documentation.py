"""Names in the documentation exist in the code, and the documentation explains the code's names."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from buckler.attacks.table import ATTACKS
from buckler.evaluation.sanity import CHECKS
from buckler.release.policy import Policy
from buckler.serving.assessment import ReasonCode
from drills.__main__ import SUITES

ROOT = Path(__file__).parents[1]
PROTOCOL, THREATS = (
    (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("evaluation-protocol", "threat-model")
)
# The changelog names files of earlier versions.
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})
HANDWRITTEN = [path for path in DOCUMENTS if path.parent != ROOT / "docs/reference"]
PACKAGES = ("benchmarks", "drills", "infra", "monitoring", "pipelines", "services", "tests")
WINGS = {path.name for path in (ROOT / "src/buckler").iterdir() if path.is_dir()}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
# Python, Markdown, YAML and TOML files and source folders, not the files that commands write.
IS_SOURCE = re.compile(
    rf"[\w/.-]+\.(py|md|ya?ml|toml)|(docs|src|{'|'.join(PACKAGES)})/[\w/.-]*|(attacks|detection|evaluation|release|serving|trust|watch)/"
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


def code(document):
    """Return all code, inline and in blocks, as one text."""
    blocks = re.findall(r"```.*?```", document, flags=re.DOTALL)
    return "\n".join([*blocks, *quoted(document)])


def module_has(name):
    """Return whether a dotted name is a module of this project, or a name in one."""
    parts = name.split(".")
    for base in (ROOT, ROOT / "src", ROOT / "src/buckler"):
        for count in range(len(parts), 0, -1):
            path = base.joinpath(*parts[:count])
            files = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
            if files:
                return not parts[count:] or re.search(rf"\b{parts[count]}\b", files[0].read_text()) is not None
    return False


def anchors(document):
    """Return the anchors of a document's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", document, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def is_parameter(name):
    """Return whether a dotted name begins with a section of params.yaml and one of its keys."""
    section, key, *_ = name.split(".")
    return key in PARAMS.get(section, ())


def commands():
    """Return each command of `buckler` with the flags that its help lists."""
    reference = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    sections = re.findall(r"## `buckler ([\w -]+)`\n(.*?)(?=\n## |\Z)", reference, flags=re.DOTALL)
    return {command: set(re.findall(r"--[a-z-]+", text)) for command, text in sections}


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


def attacks_on_the_trust_chain():
    """Return the rows of all tables about attackers on the trust chain."""
    rows = table_under(THREATS, "What each attacker on the trust chain can and cannot do")
    return [row for row in rows if row[0] != "attack" and not set(row[0]) <= {"-"}]


def test_each_attack_on_the_trust_chain_names_the_tests_and_drills_that_show_it():
    rows = attacks_on_the_trust_chain()
    assert len(rows) > 30
    for attack, result, shown in rows:
        assert result, attack
        tests, drills = re.findall(r"`(tests/[^`]+)`", shown), re.findall(r"drill `(\w+)`", shown)
        assert tests or drills, attack
        assert set(drills) <= set(SUITES["trust"]), attack
        assert {name for name in tests if not is_test(name)} == set(), attack


def is_test(name):
    """Return whether ``path::function`` names a test."""
    path, _, function = name.partition("::")
    found = ROOT / path
    return found.is_file() and re.search(rf"^(async )?def {function}\(", found.read_text(), re.MULTILINE) is not None


def test_every_drill_on_trust_is_in_the_table_of_attackers():
    named = {name for _, _, shown in attacks_on_the_trust_chain() for name in re.findall(r"drill `(\w+)`", shown)}
    assert named == set(SUITES["trust"])


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_dotted_name_in_a_document_is_a_module_a_name_in_one_or_a_parameter(document):
    # A former module in an ADR, tags in MLflow, keys of a report.
    others = {"buckler.pyfunc", "buckler.digest", "buckler.verdict", "buckler.outcome", "data.images", "data.version"}
    packages = {"buckler", *PACKAGES, *WINGS, *PARAMS}
    names = {name for name in quoted(document.read_text()) if re.fullmatch(r"\w+(\.\w+)+", name)}
    ours = {name for name in names - others if name.split(".")[0] in packages and not IS_SOURCE.fullmatch(name)}
    assert {name for name in ours if not module_has(name) and not is_parameter(name)} == set()


@pytest.mark.parametrize("document", HANDWRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_make_target_in_a_document_exists(document):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code(document.read_text()))) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_buckler_in_a_document_exists_with_its_flags(document):
    known = commands()
    for words, rest in re.findall(r"\bbuckler ([a-z-]+(?: [a-z-]+)?)([^`\n|&;#]*)", code(document.read_text())):
        command = words if words in known else words.split()[0]
        assert command in known, words
        assert set(re.findall(r"(?<= )--[a-z-]+", f"{words} {rest}")) <= known[command], f"buckler {words}{rest}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_in_a_document_leads_to_a_file_and_a_heading_that_exist(document):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text())
    for target, anchor in links:
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text()), f"{target}#{anchor}"


def test_the_runbook_explains_every_reason_why_a_model_does_not_serve():
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/runbooks/BucklerModelRefused.md").read_text(), re.MULTILINE)
    assert [code.strip("`") for row in rows for code in row.split(", ")] == list(ReasonCode)
