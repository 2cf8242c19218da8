import pytest

from tests.forms import square


@pytest.fixture(params=[2, 7], ids=["2 classes", "7 classes"])
def small(request):
    """A trained classifier, its network, pictures it has not seen and their labels; with 2 classes, then with 7."""
    from tests.unit import small as module

    classifier, network = module.train(request.param)
    images, labels = module.pictures(request.param, 60, seed=2)
    return classifier, network, images, labels


@pytest.fixture(scope="session")
def tiny_seven():
    """The real network at its smallest, untrained, with a head for seven classes."""
    from buckler.models.classifier import Classifier
    from buckler.models.networks.base import HeadShape
    from buckler.models.networks.tiny import TINY

    return Classifier(TINY.build(square(32), 7, head=HeadShape((16, 8)), seed=1), batch_size=4)


@pytest.fixture(params=["2 classes", "7 classes"])
def tiny(request, tiny_classifier, tiny_seven):
    """The tiny classifier with either number of classes."""
    return tiny_classifier if request.param == "2 classes" else tiny_seven
