"""The shape of every stored document by the number of its schema: docs/reference/schemas.json.

A document whose shape changes needs another number: readers of the earlier one would fail at its content, or take one
field for another. `make reference` writes the file, and refuses a changed shape under an unchanged number.
"""

import ast
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.results import SCHEMA as RESULTS
from benchmarks.results import Results
from buckler.detection import screening
from buckler.errors import BucklerError
from buckler.evaluation import reports
from buckler.measurements.stated import Measured
from buckler.modality.picture.measures import QUALITY_MEASURES
from buckler.models import info, initial, runtime
from buckler.serving import api_keys, model_card
from buckler.state.database import MIGRATIONS
from buckler.trust import audit, verdict
from docs.signed_documents import KINDS
from services.classifier.contract import Answer

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs/reference/schemas.json"
WORDS = frozenset({"title", "description", "default", "examples"})  # do not change what a document may contain
# Modules that write a document as a literal, whose keys are its shape.
LITERALS = (
    "pipelines/publish.py",
    "pipelines/signer.py",
    "services/classifier/records/audit.py",
    "src/buckler/trust/audit.py",
    "src/buckler/trust/journal.py",
    *(f"src/buckler/watch/jobs/{job}.py" for job in ("canary", "drift", "probe", "reevaluate")),
)

Shapes = dict[str, dict[str, int | str]]  # name of a document -> its number and the digest of its shape


def current() -> Shapes:
    """Return the number and the shape of every document as the code writes them now."""
    return {name: {"schema": number, "shape": _digest(shape)} for name, number, shape in sorted(_documents())}


def unnumbered(before: Shapes, now: Shapes) -> list[str]:
    """Return the documents whose shape changed, and whose number did not."""
    return [
        name
        for name, found in now.items()
        if name in before and found["schema"] == before[name]["schema"] and found != before[name]
    ]


def write(path: Path = FILE) -> None:
    """Write the shapes of now.

    Raises:
        BucklerError: A shape changed under an unchanged number.
    """
    now = current()
    before: Shapes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if changed := unnumbered(before, now):
        raise BucklerError(
            f"expected another schema number of {', '.join(changed)}, whose shape changed; count it up, and let its"
            " reader accept the earlier number or refuse it with what to do"
        )
    path.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


def _documents() -> Iterator[tuple[str, int, Any]]:
    """Yield name, number and shape of each document."""
    for report in reports.Report.__subclasses__():
        yield f"reports/{report.FILE}", report.SCHEMA, _of_type(report)
    for name, (document, predicate, _) in KINDS.items():
        shape = [_of_type(predicate), _of_type(Measured)] if predicate is verdict.Judgement else _of_type(predicate)
        yield f"signed {name.lower()}", int(document.predicate_type.rpartition(":v")[2]), shape
    yield f"model/{info.INFO_FILE}", info.SCHEMA, _of_type(info.ModelInfo)
    yield f"model/{runtime.INFO_FILE}", runtime.SCHEMA, _of_type(runtime.RuntimeInfo)
    yield "data/weights.json", initial.SCHEMA, _of_type(initial.InitialWeights)
    yield f"model/{screening.INFO_FILE}", screening.SCHEMA, _of_screening()
    yield "model card", model_card.SCHEMA, _of_type(model_card.ModelCard)
    yield "API keys", api_keys.SCHEMA, _of_type(api_keys.ApiKey)
    yield "docs/results", RESULTS, _of_type(Results)
    yield "line of the audit log", audit.SCHEMA, _of_type(Answer)
    for file in LITERALS:
        number, literals = _of_literals(ROOT / file)
        yield f"written by {file}", number or audit.SCHEMA, literals
    for folder in sorted({file.parent for file in MIGRATIONS.glob("*/r*.py")}):
        files = sorted(folder.glob("r*.py"))
        steps = [ast.dump(ast.parse(file.read_text(encoding="utf-8"))) for file in files]
        yield f"tables of the database {folder.name}", len(files), steps


def _of_type(kind: Any) -> Any:
    return _bare(TypeAdapter(kind).json_schema(mode="serialization"))


def _bare(schema: Any) -> Any:
    """Return a JSON schema without what only people read."""
    if isinstance(schema, list):
        return [_bare(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "properties" in schema:  # whose names may be words, too
        properties = {name: _bare(value) for name, value in schema["properties"].items()}
        return _bare({key: value for key, value in schema.items() if key != "properties"}) | {"properties": properties}
    return {key: _bare(value) for key, value in schema.items() if key not in WORDS}


def _of_screening() -> Any:
    """Return the arrays and lines of the input checks: no type describes the arrays."""
    parts = {
        field.name: [each.name for each in dataclasses.fields(field.type)]
        for field in dataclasses.fields(screening.Screening)
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
    }
    lines = [field.name for field in dataclasses.fields(screening.Screening) if field.name not in parts]
    return {"arrays": parts, "lines": lines, "quality": list(QUALITY_MEASURES)}


def _of_literals(file: Path) -> tuple[int, list[list[str]]]:
    """Return the number and the keys of the documents that a module writes as literals; 0 without a number.

    Those of a module that writes no number of its own are all its literals: lines of the audit log get theirs later.
    """
    number, numbered, others = 0, list[list[str]](), list[list[str]]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            keys = [ast.unparse(key) if key else f"**{ast.unparse(value)}" for key, value in _entries(node)]
            (numbered if "'schema'" in keys else others).append(sorted(keys))
            number = max([number, *_numbers(node)])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SCHEMA":
            number = int(ast.literal_eval(node.value))
    return number, sorted(numbered or others)


def _entries(node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True)


def _numbers(node: ast.Dict) -> Iterator[int]:
    for key, value in _entries(node):
        if key and ast.unparse(key) == "'schema'" and isinstance(value, ast.Constant) and isinstance(value.value, int):
            yield value.value


def _digest(shape: Any) -> str:
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]
