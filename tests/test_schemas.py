"""Every stored document of another shape has another schema number."""

import json
from dataclasses import dataclass, field

import pytest

from buckler.detection import screening
from buckler.errors import BucklerError
from buckler.evaluation.reports import EvaluationReport
from buckler.trust.promotion import PromotionRecord
from docs import schemas

COMMITTED = json.loads(schemas.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", schemas.current())
def test_the_number_of_a_document_changes_with_its_shape(name):
    found = schemas.current()[name]
    assert name in COMMITTED, "a new document: run `make reference`"
    if found != COMMITTED[name]:
        assert found["schema"] != COMMITTED[name]["schema"], (
            f"the shape of {name} changed and its schema number {found['schema']} did not: count it up, let its reader"
            " accept the earlier number or refuse it with what to do, then run `make reference`"
        )
        pytest.fail(f"{name} has a new schema number: run `make reference`")


def test_every_kind_of_stored_document_is_listed():
    names = " ".join(COMMITTED)
    for part in ("verdict", "promotion", "standing", "recovery", "receipt", "approval", "audit log", "model card"):
        assert part in names
    for part in ("model/detector.json", "reports/evaluation.json", "model/runtime.json", "jobs/drift.py", "API keys"):
        assert part in names


def shapes(tmp_path):
    schemas.write(tmp_path / "schemas.json")
    return json.loads((tmp_path / "schemas.json").read_text())


def test_a_measure_more_of_the_quality_needs_a_number(tmp_path, monkeypatch):
    """As when the fourth measure, colour, came: releases of before were refused only at their content."""
    before = shapes(tmp_path)
    monkeypatch.setattr(schemas, "QUALITY_MEASURES", ("brightness", "contrast", "blur"))
    assert schemas.unnumbered(before, schemas.current()) == ["model/detector.json"]
    with pytest.raises(BucklerError, match=r"another schema number of model/detector\.json, whose shape changed"):
        schemas.write(tmp_path / "schemas.json")
    monkeypatch.setattr(screening, "SCHEMA", screening.SCHEMA + 1)
    assert schemas.unnumbered(before, schemas.current()) == []
    schemas.write(tmp_path / "schemas.json")


def test_another_field_of_a_record_or_report_is_another_shape_and_other_words_are_not():
    @dataclass(frozen=True)
    class Longer(PromotionRecord):
        place: str = ""

    class Reworded(EvaluationReport):
        """Other words."""

    assert schemas._of_type(Longer) != schemas._of_type(PromotionRecord)
    assert schemas._of_type(Reworded) == schemas._of_type(EvaluationReport)


def test_a_property_that_is_called_like_a_word_counts():
    @dataclass
    class Titled:
        title: str = field(default="")

    assert schemas._of_type(Titled)["properties"] == {"title": {"type": "string"}}
