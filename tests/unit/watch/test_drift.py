"""Drift detection: few false alarms, and only changes of at least the minimum distance count."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from buckler.errors import ParamsError
from buckler.serving.traffic import TrafficObservation
from buckler.watch import drift, drift_report
from buckler.watch.drift import KINDS, QUANTITIES, DriftParams, compare

PARAMS = DriftParams(
    window_hours=24,
    window_records=2000,
    min_records=50,
    alpha=0.01,
    min_ks=0.15,
    min_total_variation=0.15,
    min_mmd=0.1,
    permutations=2000,
    seed=7,
)
SKETCH = 8


def traffic(count: int, seed: int, *, darker: float = 0.0, features: float = 0.0, score: float = 0.0, malignant=0.5):
    """Draw observations whose quantities correlate as those of pictures do, shifted by the arguments."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        light, ill = generator.normal(0.5 - darker, 0.1), generator.random() < malignant
        sketch = generator.normal(features, 1, SKETCH) + light
        probability = float(np.clip(generator.beta(8, 2), 0.5, 1))
        label = "malignant" if ill else "benign"
        found.append(
            TrafficObservation(
                moment=0.0,
                digest="sha256:1",
                width=600,
                height=450,
                size_bytes=int(generator.normal(50_000, 5_000)),
                brightness=light,
                contrast=generator.normal(0.2, 0.05),
                **{name: light + generator.normal(0, 0.05) for name in ("red", "green", "blue")},
                saturation=generator.normal(0.3, 0.1),
                sharpness=generator.lognormal(4, 1),
                label=label,
                decision="review" if probability < 0.6 else "accept",
                score=generator.normal(score, 2),
                confidence=probability,
                sketch=tuple(sketch.tolist()),
            )
        )
    return found


def drifted(reference, window, cfg=PARAMS) -> set[str]:
    return {each.quantity for each in compare(reference, window, cfg) if each.drifted}


@pytest.fixture(scope="module")
def reference():
    return traffic(200, seed=1)


def test_unchanged_traffic_raises_no_more_false_alarms_than_alpha_allows():
    """Each window has its own reference, as each user has: a single unlucky reference would affect all windows."""
    cfg = replace(PARAMS, alpha=0.05, permutations=300, min_ks=0.0, min_total_variation=0.0, min_mmd=0.0)
    windows = 120
    alarms = sum(bool(drifted(traffic(80, 1000 + i), traffic(150, 5000 + i), cfg)) for i in range(windows))
    # 5 % of 120 are 6; with a true share of 5 %, more than 14 have a probability of about one in a thousand.
    assert alarms <= 14
    # Without the correction there are many alarms, so this test can fail.
    uncorrected = sum(
        any(each.p < cfg.alpha for each in compare(traffic(80, 1000 + i), traffic(150, 5000 + i), cfg))
        for i in range(30)
    )
    assert uncorrected > 6


def test_with_minimum_distances_unchanged_traffic_raises_no_alarm(reference):
    assert all(not drifted(reference, traffic(300, seed)) for seed in range(100, 140))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"darker": 0.1}, {"brightness", "red", "green", "blue"}),
        ({"features": 0.5}, {"features"}),
        ({"score": 2.0}, {"detector_score"}),
        ({"malignant": 0.15}, {"label"}),
    ],
)
def test_only_the_changed_quantities_drift(reference, change, expected):
    found = drifted(reference, traffic(200, 77, **change))
    assert expected <= found
    # Light changes the sketch too, as it does a network's features.
    assert found - expected <= ({"features"} if "darker" in change else set())


def test_a_negligible_difference_is_no_drift_even_in_a_large_window():
    large, slightly_darker = traffic(2000, 1), traffic(2000, 2, darker=0.02)
    significant = {e.quantity for e in compare(large, slightly_darker, PARAMS) if e.p_corrected < PARAMS.alpha}
    assert "brightness" in significant
    assert drifted(large, slightly_darker) == set()


def test_another_size_is_drift_and_pictures_without_size_are_not_compared_by_it(reference):
    phone = [replace(each, width=4000, height=3000) for each in traffic(100, 5)]
    assert drifted(reference, phone) == {"width", "height"}
    tensors = [replace(each, width=None, height=None, size_bytes=None) for each in traffic(100, 5)]
    found = compare(reference, tensors, PARAMS)
    assert {each.quantity for each in found} == set(QUANTITIES) - {"width", "height", "size_bytes"}
    assert not any(each.drifted for each in found)


def test_a_new_label_is_drift(reference):
    window = [replace(each, label="other") if place % 4 == 0 else each for place, each in enumerate(traffic(200, 5))]
    (label,) = [each for each in compare(reference, window, PARAMS) if each.quantity == "label"]
    assert label.drifted
    assert label.chart.names == ("benign", "malignant", "other")
    assert label.chart.reference[2] == 0
    assert label.chart.window[2] == pytest.approx(0.25)
    assert label.distance >= 0.25


def test_rare_decisions_are_compared_by_permutation():
    """The chi-square distribution underestimates the p-value of 3 of 60 against 0 of 60."""
    rare = [replace(each, decision="review" if place < 3 else "accept") for place, each in enumerate(traffic(60, 1))]
    none = [replace(each, decision="accept") for each in traffic(60, 2)]
    (decision,) = [each for each in compare(none, rare, PARAMS) if each.quantity == "decision"]
    # Fisher's exact p is 0.244.
    assert decision.p == pytest.approx(0.244, abs=0.04)


def test_the_feature_distance_equals_the_formula_of_the_unbiased_statistic(reference):
    window = traffic(40, 9, features=0.7)
    a, b = (np.array([each.sketch for each in side]) for side in (reference[:50], window))
    both = np.concatenate([a, b])
    pairs = np.array([[((x - y) ** 2).sum() for y in both] for x in both])
    kernel = np.exp(-pairs / np.median(pairs[np.triu_indices(len(both), 1)]))
    n, m = len(a), len(b)
    within = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    expected = np.sqrt(within - 2 * kernel[:n, n:].mean())
    (features,) = [each for each in compare(reference[:50], window, PARAMS) if each.quantity == "features"]
    assert features.distance == pytest.approx(expected, rel=1e-9)
    assert features.p == pytest.approx(1 / (1 + PARAMS.permutations))


def test_constant_quantities_do_not_drift(reference):
    same = [reference[0]] * 60
    assert not any(each.drifted or not np.isfinite(each.p) for each in compare(same, same, PARAMS))


def test_results_are_repeatable(reference):
    window = traffic(700, 3)
    assert compare(reference, window, PARAMS) == compare(reference, window, PARAMS)


def test_a_chart_has_at_most_twenty_bins_whose_shares_sum_to_one(reference):
    for each in compare(reference, traffic(300, 5, darker=0.4), PARAMS):
        for side in (each.chart.reference, each.chart.window):
            assert len(side) == len(each.chart.names) or len(side) == len(each.chart.edges) - 1
            assert len(side) <= drift.BINS
            assert sum(side) == pytest.approx(1)


def test_too_few_permutations_for_alpha_are_rejected():
    with pytest.raises(ParamsError, match=r"cannot resolve alpha=0.001 over 15 quantities; need at least 15000"):
        replace(PARAMS, alpha=0.001)


def test_a_window_smaller_than_the_minimum_is_rejected():
    with pytest.raises(ParamsError, match="min_records"):
        replace(PARAMS, window_records=40)


def test_one_picture_cannot_be_compared(reference):
    with pytest.raises(ValueError, match="at least 2 pictures in each sample, got 200 and 1"):
        compare(reference, reference[:1], PARAMS)


# --- report and metrics


def samples(state) -> dict[tuple[str, str], float]:
    """Return the samples of a scrape, through Prometheus's own registry."""

    class Collector:
        def collect(self):
            return drift_report.drift_metrics(state)

    registry = CollectorRegistry()
    registry.register(Collector())
    return {
        (each.name, next(iter(each.labels.values()), "")): each.value
        for metric in registry.collect()
        for each in metric.samples
    }


def test_each_kind_is_exported_with_its_smallest_p_value(reference):
    found = compare(reference, traffic(200, 77, darker=0.1), PARAMS)
    shown = samples({**drift_report.as_state(found, PARAMS), "window": {"pictures": 200}})
    assert {kind: shown["buckler_drift_detected", kind] for kind in KINDS}["input"] == 1
    assert shown["buckler_drift_detected", "detector"] == 0
    assert shown["buckler_drift_p_value_ratio", "input"] == min(e.p_corrected for e in found if e.kind == "input")
    assert shown["buckler_drift_window_pictures", ""] == 200
    distances = {key[1]: value for key, value in shown.items() if key[0] == "buckler_drift_distance_ratio"}
    assert distances == {each.quantity: each.distance for each in found}
    assert all(0 <= value <= 1 for value in distances.values())


def test_before_the_first_run_no_kind_has_drifted_or_has_a_p_value():
    shown = samples(None)
    assert {kind: shown["buckler_drift_detected", kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert shown["buckler_drift_window_pictures", ""] == 0
    assert not [key for key in shown if key[0] in ("buckler_drift_p_value_ratio", "buckler_drift_distance_ratio")]


def test_a_reason_names_quantity_distance_and_p(reference):
    (reason,) = drift_report.reasons([e for e in compare(reference, traffic(200, 77, score=2.0), PARAMS) if e.drifted])
    assert reason.startswith("detector_score drifted: ks distance 0.")
    assert "corrected p" in reason
