import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from buckler.detection.temperature import COLDEST, HOTTEST, fit_temperature
from buckler.models.forward import probabilities


def drawn(temperature, *, count=20_000, classes=2, seed=0):
    """Return logits that are too large by the factor ``temperature``, and classes drawn from the true probabilities."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, classes))
    shares = probabilities(logits)
    truth = (shares.cumsum(axis=1) < generator.uniform(size=(count, 1))).sum(axis=1)
    return (temperature * logits).astype(np.float32), truth


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 7])
def test_the_temperature_of_miscalibrated_logits_is_found(temperature, classes):
    logits, truth = drawn(temperature, classes=classes)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_minimises_the_likelihood_of_the_smoothed_targets():
    logits, truth = drawn(2.0, count=60, classes=3)
    targets = (np.eye(3)[truth] * 60 + 1) / 63

    def loss(log_temperature):
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        return -(targets * (scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))).sum()

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(logits, truth) == pytest.approx(np.exp(best.x), rel=1e-5)


def test_a_network_that_is_always_right_is_not_called_certain():
    truth = np.arange(50) % 2
    logits = np.where(np.eye(2)[truth] > 0, 1.0, -1.0).astype(np.float32)
    shares = probabilities(logits, fit_temperature(logits, truth))
    # 51 of 52: what Platt's targets say of a class without a single error.
    assert shares.max(axis=1) == pytest.approx(51 / 52, abs=1e-4)


def test_a_network_worse_than_chance_gets_the_highest_temperature_and_keeps_its_order():
    truth = np.arange(50) % 2
    logits = np.where(np.eye(2)[truth] > 0, -1.0, 1.0).astype(np.float32)
    assert fit_temperature(logits, truth) == pytest.approx(HOTTEST)
    assert (probabilities(logits, HOTTEST).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_separated_logits_of_any_size_stay_within_the_limits():
    truth = np.arange(50) % 2
    logits = np.where(np.eye(2)[truth] > 0, 1e-6, -1e-6).astype(np.float32)
    assert fit_temperature(logits, truth) == pytest.approx(COLDEST)
    assert COLDEST < fit_temperature(1e8 * logits, truth) < HOTTEST


@pytest.mark.parametrize("count", [0, 10])
def test_equal_logits_leave_the_temperature_at_one(count):
    assert fit_temperature(np.ones((count, 2), np.float32), np.zeros(count, np.int64)) == 1.0


def test_the_order_of_all_classes_stays_the_same():
    logits, truth = drawn(3.0, count=500, classes=7)
    shares = probabilities(logits, fit_temperature(logits, truth))
    np.testing.assert_array_equal(shares.argsort(axis=1), logits.argsort(axis=1))
