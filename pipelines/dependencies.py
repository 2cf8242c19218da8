"""Writes the code dependencies of every stage into dvc.yaml: ``python -m pipelines.dependencies`` (``make deps``).

DVC does not follow imports. A stage depends on its module and on everything that the module imports, directly or
indirectly. A modality is imported by its name, so a stage that asks for one depends on the folder of all modalities.
Dependencies on data are declared by hand and not changed.
"""

import ast
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"buckler": ROOT / "src", "pipelines": ROOT}
DVC_YAML = ROOT / "dvc.yaml"
MODALITIES = "src/buckler/modality"  # a folder
_BY_NAME = ROOT / MODALITIES / "table.py"


def main() -> None:
    """Rewrite the code dependencies in dvc.yaml of each stage whose imports have changed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(DVC_YAML.read_text(encoding="utf-8"))
    changed = []
    for name, stage in document["stages"].items():
        wanted = [*(dep for dep in stage["deps"] if not is_code(dep)), *sorted(code_of(name))]
        if list(stage["deps"]) != wanted:
            stage["deps"][:] = wanted
            changed.append(name)
    if changed:
        with DVC_YAML.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)
    print(f"dvc.yaml: {', '.join(changed) or 'nothing'} changed")


def is_code(dependency: str) -> bool:
    """Return whether a dependency of a stage is a Python module, a template that one loads, or the modalities."""
    return dependency.endswith(".py") or "/templates/" in dependency or dependency == MODALITIES


def code_of(stage: str) -> set[str]:
    """Return the code that ``stage`` imports, directly or not, and its templates, as paths in the project."""
    seen, todo = set(), {PACKAGES["pipelines"] / "pipelines" / f"{stage}.py"}
    while todo:
        file = todo.pop()
        seen.add(file)
        imported = _imports_of(file) | (set((ROOT / MODALITIES).rglob("*.py")) if file == _BY_NAME else set())
        todo |= imported - seen
    templates = {file for module in seen for file in _templates_beside(module)}
    # Empty package markers are left out: they do not influence a stage.
    code = {file for file in seen if file.read_text(encoding="utf-8").strip()}
    names = {file.relative_to(ROOT).as_posix() for file in code | templates}
    if _BY_NAME not in seen:
        return names
    return {MODALITIES, *(name for name in names if not name.startswith(f"{MODALITIES}/"))}


def _templates_beside(module: Path) -> set[Path]:
    """Return the files that the package ``templates`` loads, if ``module`` is in one."""
    if module.parent.name != "templates":
        return set()
    return {file for file in module.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")}


@cache
def _imports_of(file: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found for name in names for found in _files_of(name))


def _files_of(name: str) -> set[Path]:
    """Return the files that importing ``name`` runs: the module and its packages; none for other distributions."""
    top, *parts = name.split(".")
    if top not in PACKAGES:
        return set()
    # The packages at the top only list public names.
    folder, found = PACKAGES[top] / top, set()
    for part in parts:
        folder = folder / part
        found |= {file for file in (folder.with_suffix(".py"), folder / "__init__.py") if file.is_file()}
    return found


if __name__ == "__main__":
    main()
