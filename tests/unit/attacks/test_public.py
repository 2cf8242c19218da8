"""The public names of `buckler.attacks`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from buckler import attacks
from buckler.attacks.table import ATTACKS

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("src", "pipelines", "services", "benchmarks", "drills")


def imports_from(file):
    """Yield module and name of each ``from ... import ...`` in ``file``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def test_every_attack_of_the_table_is_public():
    assert {attack.__name__ for attack in ATTACKS.values()} <= set(attacks.__all__)
    assert all(getattr(attacks, attack.__name__) is attack for attack in ATTACKS.values())


def test_types_are_declared_for_exactly_the_public_names():
    declared = {name: module for module, name in imports_from(Path(attacks.__file__).with_suffix(".pyi"))}
    assert declared == attacks._MODULES
    assert all(hasattr(attacks, name) for name in attacks.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Sword'"):
        _ = attacks.Sword


def test_the_package_itself_loads_no_attack():
    code = "import sys, buckler.attacks; print([name for name in sys.modules if name.startswith('buckler.attacks.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_of_the_project_import_attacks_from_their_modules():
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    assert files
    found = {(file.name, name) for file in files for module, name in imports_from(file) if module == "buckler.attacks"}
    assert not {(file, name) for file, name in found if name in attacks.__all__}
