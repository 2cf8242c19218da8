"""Findings of the job ``drift`` as a document for the console and as Prometheus metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from buckler.watch.drift import KINDS, DriftParams, DriftTest

TOO_FEW = "too few pictures"


def reasons(findings: Sequence[DriftTest]) -> list[str]:
    """Return a sentence for each quantity that has drifted."""
    return [
        f"{each.quantity} drifted: {each.test} distance {each.distance:.3f} (counts from {each.min_distance:.3f}), "
        f"corrected p {each.p_corrected:.2g}"
        for each in findings
        if each.drifted
    ]


def findings_of(findings: Sequence[DriftTest], cfg: DriftParams) -> dict[str, Any]:
    """Return the content of ``.buckler/watch/drift.json``: findings by kind, and each quantity with its chart."""
    return {
        "alpha": cfg.alpha,
        "kinds": {kind: _kind([each for each in findings if each.kind == kind]) for kind in KINDS},
        "quantities": [asdict(each) for each in findings],
    }


def _kind(findings: Sequence[DriftTest]) -> dict[str, Any]:
    if not findings:
        return {"detected": False, "p": None, "quantity": None}
    worst = min(findings, key=lambda each: (not each.drifted, each.p_corrected, -each.distance))
    return {
        "detected": worst.drifted,
        "p": min(each.p_corrected for each in findings),
        "quantity": worst.quantity,
    }


def drift_metrics(state: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Yield the gauges of the last findings; kinds that were not compared have no p-value.

    Args:
        state: The job's stored state; None before its first run.
    """
    found = state or {"kinds": {kind: _kind([]) for kind in KINDS}, "quantities": [], "window": {"pictures": 0}}
    detected = GaugeMetricFamily(
        "buckler_drift_detected", "1 if the served traffic has drifted from the calibration pictures.", labels=["kind"]
    )
    p = GaugeMetricFamily(
        "buckler_drift_p_value_ratio",
        "Smallest p-value of a kind's quantities, corrected for all that are tested.",
        labels=["kind"],
    )
    for kind, said in found["kinds"].items():
        detected.add_metric([kind], int(said["detected"]))
        if said["p"] is not None:
            p.add_metric([kind], said["p"])
    distance = GaugeMetricFamily(
        "buckler_drift_distance_ratio",
        "How far apart traffic and calibration pictures are, 0 to 1, by quantity.",
        labels=["quantity"],
    )
    for each in found["quantities"]:
        distance.add_metric([each["quantity"]], each["distance"])
    pictures = GaugeMetricFamily("buckler_drift_window_pictures", "Served pictures that were compared.")
    pictures.add_metric([], found["window"]["pictures"])
    yield from (detected, p, distance, pictures)
