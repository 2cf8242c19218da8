"""Results of the job ``drift`` as a document for the console and as Prometheus metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from buckler.watch.drift import KINDS, DriftParams, DriftTest

TOO_FEW = "too few pictures"


def reasons(tests: Sequence[DriftTest]) -> list[str]:
    """Return a sentence for each quantity that has drifted."""
    return [
        f"{test.quantity} drifted: {test.test} distance {test.distance:.3f} (minimum {test.min_distance:.3f}), "
        f"corrected p {test.p_corrected:.2g}"
        for test in tests
        if test.drifted
    ]


def as_state(tests: Sequence[DriftTest], cfg: DriftParams) -> dict[str, Any]:
    """Return the results' part of ``.buckler/watch/drift.json``: each kind, and each quantity with its chart."""
    return {
        "alpha": cfg.alpha,
        "kinds": {kind: _kind([test for test in tests if test.kind == kind]) for kind in KINDS},
        "quantities": [asdict(test) for test in tests],
    }


def _kind(tests: Sequence[DriftTest]) -> dict[str, Any]:
    if not tests:
        return {"detected": False, "p": None, "quantity": None}
    worst = min(tests, key=lambda test: (not test.drifted, test.p_corrected, -test.distance))
    return {
        "detected": worst.drifted,
        "p": min(test.p_corrected for test in tests),
        "quantity": worst.quantity,
    }


def drift_metrics(state: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Yield the gauges of the last run; kinds that were not compared have no p-value.

    Args:
        state: The job's stored state; None before its first run.
    """
    found = state or {"kinds": {kind: _kind([]) for kind in KINDS}, "quantities": [], "window": {"pictures": 0}}
    detected = GaugeMetricFamily(
        "buckler_drift_detected", "1 if the served traffic has drifted from the calibration pictures.", labels=["kind"]
    )
    p = GaugeMetricFamily(
        "buckler_drift_p_value_ratio",
        "Smallest p-value of the kind's quantities, corrected for the number of quantities.",
        labels=["kind"],
    )
    for kind, result in found["kinds"].items():
        detected.add_metric([kind], int(result["detected"]))
        if result["p"] is not None:
            p.add_metric([kind], result["p"])
    distance = GaugeMetricFamily(
        "buckler_drift_distance_ratio",
        "Distance between traffic and calibration pictures, 0 to 1.",
        labels=["quantity"],
    )
    for each in found["quantities"]:
        distance.add_metric([each["quantity"]], each["distance"])
    pictures = GaugeMetricFamily("buckler_drift_window_pictures", "Served pictures that were compared.")
    pictures.add_metric([], found["window"]["pictures"])
    yield from (detected, p, distance, pictures)
