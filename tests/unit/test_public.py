"""The public names of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import buckler

PUBLIC = [
    "BucklerError",
    "Classifier",
    "Client",
    "Prediction",
    "Predictor",
    "ServiceError",
    "attacks",
    "load_network",
    "load_pixels",
    "load_public_keys",
    "verify_release",
]


def test_the_public_names_are_listed_and_visible_to_import_contracts():
    assert buckler.__all__ == PUBLIC
    source = ast.parse(Path(buckler.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("buckler")
        for alias in node.names
    }
    assert seen == {name: f"buckler.{module}" for name, module in buckler._MODULES.items()} | {"attacks": "buckler"}
    assert all(getattr(buckler, name).__name__.removeprefix("buckler.") == name for name in PUBLIC)
    assert buckler.attacks.FGSM.name == "fgsm"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Sword'"):
        _ = buckler.Sword


def test_importing_the_package_loads_no_other_module_and_writes_no_file(tmp_path):
    code = (
        "import sys, buckler; print(sorted(m for m in sys.modules if m.startswith(('buckler', 'numpy', 'tensorflow'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['buckler']"
    assert list(tmp_path.iterdir()) == []
