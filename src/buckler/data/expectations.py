"""Expectations of a manifest, as Great Expectations suites; the only module that imports that library.

A violated critical expectation stops the pipeline, because later results would be wrong or impossible. A violated
warning is reported, and the gate judges it.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import pandas as pd
from pydantic import Field

from buckler.data import manifest
from buckler.data.offline_pages import offline
from buckler.measurements.results import Expectation, Severity
from buckler.modality.base import FactCheck
from buckler.params import Count, CountOrAll, Real, Share

SEVERITIES: Final[Mapping[str, Severity]] = {
    "columns": "critical",
    "unique_ids": "critical",
    "known_labels": "critical",
    "one_label_a_content": "critical",
    "malignant_labels": "critical",
    "pictures_in_every_class": "critical",
    "decodes": "warning",
    "no_repeated_files": "warning",
    "pictures_a_class": "warning",
    "class_balance": "warning",
}

_SHOWN: Final = 5  # violating rows named in a message


def warnings(facts: Sequence[FactCheck]) -> tuple[str, ...]:
    """Return the names of the expectations whose violation is a warning, with those of ``facts``."""
    return (
        *(name for name, severity in SEVERITIES.items() if severity == "warning"),
        *(check.name for check in facts),
    )


@dataclass(frozen=True, slots=True)
class ValidateParams:
    """Section ``validate`` of params.yaml."""

    min_side: Count
    max_side: Count
    min_per_class: CountOrAll
    max_imbalance: Annotated[Real, Field(ge=1, le=1000)]
    max_undecodable: Share
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Reject sides that no picture can have."""
        if self.min_side > self.max_side:
            raise ValueError(f"expected min_side up to max_side, got {self.min_side} and {self.max_side}")


@dataclass(frozen=True, slots=True)
class _Check:
    """An expectation with the name and text that reports use."""

    name: str
    expected: str
    build: Any

    @property
    def severity(self) -> Severity:
        return SEVERITIES.get(self.name, "warning")  # expectations of facts


def check(
    frame: pd.DataFrame,
    problems: Sequence[str],
    kept: pd.DataFrame,
    limits: ValidateParams,
    dangerous: Sequence[str],
    facts: Sequence[FactCheck] = (),
) -> "ValidationResult":
    """Check a manifest.

    Args:
        frame: The manifest as ingested.
        problems: For every row the code of its decoding error, or ``none``.
        kept: The rows of ``frame`` without undecodable pictures and repeated files.
        limits: Section ``validate`` of params.yaml.
        dangerous: Labels that must occur at least once.
        facts: What is expected of the files' facts.
    """
    validation = _Validation()
    results = [
        *validation.run(
            "pictures", "id", picture_table(frame, problems, facts), _picture_checks(frame, limits, dangerous, facts)
        ),
        *validation.run("classes", "label", class_table(frame, kept), _class_checks(limits)),
    ]
    return ValidationResult(tuple(results), validation)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """All results of one validation, which can be written as Data Docs."""

    results: tuple[Expectation, ...]
    _validation: "_Validation"

    def violated(self, severity: Severity) -> tuple[Expectation, ...]:
        """Return the violated expectations of this ``severity``."""
        return tuple(one for one in self.results if one.severity == severity and not one.passed)

    def pages(self) -> dict[str, str]:
        """Return Great Expectations' pages, HTML by path, readable offline; equal results give equal pages."""
        return {name: offline(page) for name, page in self._validation.pages().items()}


def picture_table(frame: pd.DataFrame, problems: Sequence[str], facts: Sequence[FactCheck]) -> pd.DataFrame:
    """Return the manifest with ``problem`` and ``labels_of_content``, the number of labels of identical files.

    Facts of which a number is expected become numbers; those of files that do not decode are missing.
    """
    columns = {check.fact: _fact_column(frame[check.fact], check) for check in facts}
    return frame.assign(
        **columns,
        problem=list(problems),
        labels_of_content=frame.groupby("sha256")["label"].transform("nunique"),
    )


def class_table(frame: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return ``label``, ``images`` and ``imbalance`` (largest class over this one) of every class."""
    images = kept["label"].value_counts().reindex(manifest.labels(frame), fill_value=0)
    imbalance = images.max() / images.clip(lower=1)
    return pd.DataFrame({"label": images.index, "images": images.values, "imbalance": imbalance.values})


def _picture_checks(
    frame: pd.DataFrame, limits: ValidateParams, dangerous: Sequence[str], facts: Sequence[FactCheck]
) -> list[_Check]:
    known = list(limits.labels) or manifest.labels(frame)
    decodable = 1 - limits.max_undecodable
    checks = [
        _Check(
            "columns",
            f"the columns {', '.join(manifest.COLUMNS)}",
            lambda gx: gx.ExpectTableColumnsToMatchSet(column_set=list(manifest.COLUMNS), exact_match=False),
        ),
        _Check("unique_ids", "every id once", lambda gx: gx.ExpectColumnValuesToBeUnique(column="id")),
        _Check(
            "decodes",
            f"at least {decodable:.1%} of the files are complete pictures (validate.max_undecodable)",
            lambda gx: gx.ExpectColumnValuesToBeInSet(column="problem", value_set=["none"], mostly=decodable),
        ),
        *map(_fact_check, facts),
        _Check(
            "known_labels",
            f"labels among {', '.join(known)} (validate.labels)",
            lambda gx: gx.ExpectColumnValuesToBeInSet(column="label", value_set=known),
        ),
        _Check(
            "one_label_a_content",
            "identical files in one class only",
            lambda gx: gx.ExpectColumnValuesToBeBetween(column="labels_of_content", min_value=1, max_value=1),
        ),
        _Check(
            "no_repeated_files",
            "every file's content once; repetitions within a class are left out",
            lambda gx: gx.ExpectColumnValuesToBeUnique(column="sha256"),
        ),
    ]
    if dangerous:
        names = list(dangerous)
        checks.append(
            _Check(
                "malignant_labels",
                f"pictures of {', '.join(names)} (data.malignant)",
                lambda gx: gx.ExpectColumnDistinctValuesToContainSet(column="label", value_set=names),
            )
        )
    return checks


def _fact_column(texts: "pd.Series[str]", check: FactCheck) -> Any:
    known = texts.astype(object).where(texts != "", None)
    return known if check.among is not None else pd.to_numeric(known).astype("float64")


def _fact_check(check: FactCheck) -> _Check:
    if check.among is not None:
        among = {"value_set": list(check.among), "mostly": check.mostly}
        return _Check(check.name, check.expected, lambda gx: gx.ExpectColumnValuesToBeInSet(column=check.fact, **among))
    between = {"min_value": check.low, "max_value": check.high, "mostly": check.mostly}
    return _Check(check.name, check.expected, lambda gx: gx.ExpectColumnValuesToBeBetween(column=check.fact, **between))


def _class_checks(limits: ValidateParams) -> list[_Check]:
    return [
        _Check(
            "pictures_in_every_class",
            "a usable picture in every class",
            lambda gx: gx.ExpectColumnValuesToBeBetween(column="images", min_value=1),
        ),
        _Check(
            "pictures_a_class",
            f"at least {limits.min_per_class} pictures in every class (validate.min_per_class)",
            lambda gx: gx.ExpectColumnValuesToBeBetween(column="images", min_value=limits.min_per_class),
        ),
        _Check(
            "class_balance",
            f"the largest class at most {limits.max_imbalance:g} times any other (validate.max_imbalance)",
            lambda gx: gx.ExpectColumnValuesToBeBetween(column="imbalance", max_value=limits.max_imbalance),
        ),
    ]


class _Validation:
    """An in-memory Great Expectations context and the validations run in it."""

    def __init__(self) -> None:
        import great_expectations as gx  # takes seconds; only validation needs it
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        self._gx = gx
        self._context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(),
                analytics_enabled=False,  # no telemetry
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )
        self._source = self._context.data_sources.add_pandas("manifest")
        self._run: dict[str, tuple[Any, Any]] = {}

    def run(self, name: str, key: str, table: pd.DataFrame, checks: Sequence[_Check]) -> list[Expectation]:
        """Run ``checks`` over ``table``; ``key`` is the column that names its rows."""
        gx = self._gx
        suite = self._context.suites.add(gx.ExpectationSuite(name=name))
        for one in checks:
            expectation = one.build(gx.expectations)
            expectation.notes = one.expected
            expectation.severity = one.severity
            expectation.meta = {"name": one.name}
            suite.add_expectation(expectation)
        batch = self._source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite)
        )
        result = definition.run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [key]},
        )
        # Results have no fixed order, and two expectations of one column may have the same kwargs: match by name.
        rows = {row.expectation_config.meta["name"]: row for row in result.results if row.expectation_config}
        result.results = [rows[one.name] for one in checks]
        self._run[name] = (suite, result)
        found = [_result(one, rows[one.name], key) for one in checks]
        for row in result.results:  # the library's pages do not escape the values of the table
            row.result = _escaped(row.result)
        return found

    def pages(self) -> dict[str, str]:
        from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
        from great_expectations.render.view import DefaultJinjaPageView

        view, pages = DefaultJinjaPageView(), {}
        for name, (suite, result) in self._run.items():
            # The library's site builder would put the moment of the run into paths and pages.
            result.meta |= {"run_id": {"run_name": name, "run_time": ""}, "batch_markers": {}}
            pages[f"expectations/{name}.html"] = view.render(ExpectationSuitePageRenderer().render(suite))
            pages[f"validations/{name}.html"] = view.render(ValidationResultsPageRenderer().render(result))
        return pages


def _escaped(value: Any) -> Any:
    """Return JSON ``value`` with all texts escaped for HTML."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {_escaped(name): _escaped(each) for name, each in value.items()}
    return [_escaped(each) for each in value] if isinstance(value, list | tuple) else value


def _result(one: _Check, result: Any, key: str) -> Expectation:
    return Expectation(one.name, one.severity, bool(result.success), one.expected, _observed(result, key))


def _observed(result: Any, key: str) -> str:
    if result.exception_info and result.exception_info.get("raised_exception"):
        return f"could not be checked: {result.exception_info.get('exception_message')}"
    details = result.result
    if details.get("partial_missing_list"):
        return f"none of {', '.join(map(str, details['partial_missing_list']))}"
    if "unexpected_count" not in details:
        return ", ".join(map(str, details.get("observed_value") or [])) or "as expected"
    count, total = details["unexpected_count"], details["element_count"]
    if not count:
        return f"all {total}"
    rows = details.get("unexpected_index_list") or []
    column = result.expectation_config.kwargs["column"]
    offenders = [f"{row[key]} ({row[column]})" if column != key else str(row[key]) for row in rows]
    more = f" and {len(offenders) - _SHOWN} more" if len(offenders) > _SHOWN else ""
    return f"{count} of {total} violate it: {', '.join(offenders[:_SHOWN])}{more}"
