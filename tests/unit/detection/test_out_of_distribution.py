import numpy as np
import pytest

from buckler.detection.out_of_distribution import OutOfDistributionDetector

WIDTH = 2944  # as VGG-19's
READ = np.arange(896, 1920)


def clouds(generator, count, shift=0.0):
    """Features of two classes: unit noise around -1 and +1 in the first hundred of ``READ``."""
    labels = np.arange(count) % 2
    features = generator.normal(size=(count, WIDTH)).astype(np.float32)
    features[:, READ[:100]] += (2 * labels - 1)[:, None] + shift
    return features, labels


@pytest.fixture(scope="module")
def fitted():
    return OutOfDistributionDetector.fit(*clouds(np.random.default_rng(0), 400), read=READ)


def test_features_far_from_both_clouds_score_higher_than_clean_ones(fitted):
    generator = np.random.default_rng(1)
    clean, moved = (fitted.score(clouds(generator, 100, shift)[0]) for shift in (0.0, 6.0))
    assert np.quantile(clean, 0.95) < np.quantile(moved, 0.05)


def test_clean_pictures_of_both_classes_have_equal_mean_scores(fitted):
    features, labels = clouds(np.random.default_rng(2), 400)
    scores = fitted.score(features)
    assert abs(scores[labels == 0].mean() - scores[labels == 1].mean()) < 0.1 * scores.mean()


def test_a_class_of_one_picture_is_an_error():
    features, _ = clouds(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="at least 2 pictures a class"):
        OutOfDistributionDetector.fit(features, np.array([0, 0, 1]), read=READ)
