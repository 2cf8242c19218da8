"""Metrics of each job's last findings: one function per job, from its state to metric families.

Series with a meaningful zero exist before the first run; values never measured are absent.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from buckler.measurements.stated import Measured
from buckler.radius import StatedRadius
from buckler.release.policy import REFUTABLE_KINDS

# Reasons for a failed re-evaluation: the gate's kinds on the pinned and on the newest pictures, and an invalid verdict.
GATE_REASONS = (*REFUTABLE_KINDS, *(f"newest_{kind}" for kind in REFUTABLE_KINDS), "verdict_failed")

State = Mapping[str, Any] | None


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Return an empty family."""
    return GaugeMetricFamily(name, text, labels=labels)


def reevaluation(state: State) -> Iterator[Metric]:
    """Yield the metrics of the last re-evaluation."""
    failures = gauge("buckler_gate_failures", "1 for each reason for which the last re-evaluation failed.", "reason")
    found = (state or {}).get("failures", ())
    for reason in GATE_REASONS:
        failures.add_metric([reason], int(reason in found))
    yield failures
    if state is not None and "measured" in state:  # not in the state of an earlier version
        yield from _accuracies(state, Measured.read(state["measured"]))


def _accuracies(state: Mapping[str, Any], measured: Measured) -> Iterator[Metric]:
    passed = gauge("buckler_gate_passed", "1 if the champion passed its last re-evaluation.", "model")
    passed.add_metric([state["model"]["name"]], int(state["passed"]))
    clean = gauge("buckler_clean_accuracy_ratio", "Clean accuracy at the last re-evaluation.")
    if measured.clean_accuracy:
        clean.add_metric([], measured.clean_accuracy.value)
    labels = ("attack", "radius")
    robust = gauge("buckler_robust_accuracy_ratio", "Robust accuracy at the last re-evaluation.", *labels)
    low = gauge("buckler_robust_accuracy_low_ratio", "Lower bound of its 95 % confidence interval.", *labels)
    high = gauge("buckler_robust_accuracy_high_ratio", "Upper bound of its 95 % confidence interval.", *labels)
    for cell in measured.attacks:
        # The name of the suite's entry: two entries may run the same attack.
        series = [cell.name, cell.radius]
        robust.add_metric(series, cell.robust_accuracy.value)
        low.add_metric(series, cell.robust_accuracy.low)
        high.add_metric(series, cell.robust_accuracy.high)
    floor = gauge(
        "buckler_robust_accuracy_floor_ratio",
        "Minimum worst-case robust accuracy at this radius by the champion's verdict.",
        "radius",
    )
    for radius, share in state["floors"].items():
        floor.add_metric([StatedRadius(radius)], share)  # a number in the state of an earlier version
    yield from (passed, clean, robust, low, high, floor)


def canary(state: State) -> Iterator[Metric]:
    """Yield the metrics of the service's last answers to the reference pictures."""
    if state is None:
        return
    right = gauge("buckler_canary_right_ratio", "Share of the reference pictures with the expected answer.")
    right.add_metric([], state["right_ratio"])
    seconds = gauge("buckler_canary_seconds", "Mean time from sending a reference picture to its answer.")
    seconds.add_metric([], state["seconds"])
    yield from (right, seconds)


def probe(state: State) -> Iterator[Metric]:
    """Yield the metrics of the last probe with clean and attacked pictures."""
    if state is None:
        return
    parity = gauge("buckler_probe_parity_ratio", "Share of pictures with the same label off-line and through REST.")
    parity.add_metric([], state["parity_ratio"])
    gap = gauge(
        "buckler_probe_probability_gap_ratio",
        "Mean over pictures of the largest difference of a probability between REST and off-line.",
    )
    gap.add_metric([], state["probability_gap"])
    flagged = gauge(
        "buckler_probe_flagged_ratio",
        "Share of pictures flagged as adversarial or query attack.",
        "pictures",
    )
    for pictures, share in state["flagged_ratio"].items():
        flagged.add_metric([pictures], share)
    robust = gauge("buckler_probe_robust_accuracy_ratio", "Robust accuracy through REST.", "attack")
    for attack, share in state["robust_accuracy"].items():
        robust.add_metric([attack], share)
    yield from (parity, gap, flagged, robust)
